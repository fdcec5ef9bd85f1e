package rest

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestErrorBodiesBecomeErrorsWithMeaning(t *testing.T) {
	for _, c := range []struct {
		status   int
		ct, body string
		is       error
		text     string
	}{
		{404, "application/json", `{"code":"ResourceNotFound","message":"image 1111 not found"}`, ErrNotFound, "404 not found (ResourceNotFound): image 1111 not found"},
		{401, "application/json", `{"code":"UnauthorizedError","message":"Unauthorized"}`, ErrAuth, "401 unauthorized (UnauthorizedError): Unauthorized"},
		{422, "application/json", `{"code":"ValidationFailed","message":"invalid image data: os","errors":[{"field":"os","code":"MissingParameter"}]}`, ErrInvalid, "invalid image data: os; os: MissingParameter"},
		{500, "application/json", `{"message":"EROFS: read-only file system"}`, nil, "500 internal server error: EROFS: read-only file system"},
		{409, "text/html", "<html>\x1b[31mno</html>", ErrConflict, "409 conflict: 20 bytes of text/html instead of a JSON error"},
		{412, "application/json", "{\"code\":\"PreconditionFailed\",\"message\":\"a\\u001b[31mb\\nc\"}", ErrPrecondition, "a?[31mb c"},
		{405, "application/json", `[1]`, ErrNotAllowed, "405 method not allowed"},
		{429, "application/json", `{"code":7,"message":{"x":1},"errors":"no"}`, ErrThrottled, "429 too many requests"},
	} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", c.ct)
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		})
		_, err := client(t, s.URL, nil).JSON(t.Context(), Request{Path: "/x", Once: true}, nil)
		if err == nil || !strings.Contains(err.Error(), c.text) || !strings.HasPrefix(err.Error(), "GET "+s.URL+"/x: ") {
			t.Errorf("%d: %v, want %q", c.status, err, c.text)
		}
		if c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%d: %v is not %v", c.status, err, c.is)
		}
		if strings.ContainsAny(err.Error(), "\x1b\n") {
			t.Errorf("%d: control characters reach the terminal: %q", c.status, err)
		}
	}
}

func TestAnswersOfTheWrongKindOrSizeAreErrors(t *testing.T) {
	for name, c := range map[string]struct {
		h  http.HandlerFunc
		is error
	}{
		"html": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<html>")
		}, ErrNotJSON},
		"broken": {func(w http.ResponseWriter, r *http.Request) { answer(w, 200, `{"a":`) }, ErrNotJSON},
		"empty":  {func(w http.ResponseWriter, r *http.Request) { answer(w, 200, ``) }, ErrNotJSON},
		"two":    {func(w http.ResponseWriter, r *http.Request) { answer(w, 200, `{} {}`) }, ErrNotJSON},
		"gzip": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			answer(w, 200, "\x1f\x8b")
		}, ErrNotJSON},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for {
				if _, err := w.Write([]byte(strings.Repeat(" ", 4096))); err != nil {
					return
				}
			}
		}, ErrTooLarge},
		"cut": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			answer(w, 200, `{"a":1`)
		}, ErrUnavailable},
	} {
		s := serve(t, c.h)
		_, err := client(t, s.URL, func(cfg *Config) { cfg.MaxBody = 1 << 20 }).JSON(t.Context(), Request{Path: "/"}, &map[string]any{})
		if !errors.Is(err, c.is) {
			t.Errorf("%s: %v, want %v", name, err, c.is)
		}
	}
}

func FuzzErrorBody(f *testing.F) {
	f.Add("application/json", []byte(`{"code":"A","message":"b","errors":[{"field":"f","code":"c","message":"m"}]}`))
	f.Add("text/html", []byte("<html>"))
	f.Add("", []byte(`{"errors":[1,null,{"field":{}}],"message":[]}`))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		e := &Error{Method: "GET", URL: "http://x", Status: 500}
		e.decode(contentType, body)
		s := e.Error()
		if strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f || r == 0x9b }) {
			t.Errorf("control character in %q", s)
		}
		if len(s) > 200_000 {
			t.Errorf("error text of %d bytes", len(s))
		}
	})
}
