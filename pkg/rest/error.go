package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// What an error means, for errors.Is.
var (
	ErrNotFound     = errors.New("not found")                    // 404, 410
	ErrAuth         = errors.New("not authorised")               // 401, 403
	ErrNotAllowed   = errors.New("method not allowed")           // 405
	ErrConflict     = errors.New("conflict")                     // 409
	ErrPrecondition = errors.New("precondition failed")          // 412
	ErrInvalid      = errors.New("request refused as invalid")   // 400, 422
	ErrThrottled    = errors.New("throttled")                    // 429
	ErrUnavailable  = errors.New("unreachable or not available") // no connection, 502, 503, 504
	// ErrUnknownOutcome: the answer to a request that changes something was lost
	// after the request was sent. It may have been carried out.
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrNotJSON: an answer of another kind, or broken JSON.
	ErrNotJSON = errors.New("answer is not JSON")
	// ErrTooLarge: more bytes than the caller allows.
	ErrTooLarge = errors.New("answer is too large")
	// ErrStalled: no byte arrived for the stall time.
	ErrStalled = errors.New("stalled")
)

// FieldError is one entry of the errors array of a service's error body.
type FieldError struct {
	Field   string `json:"field"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error is a failed call. Status is 0 when no HTTP status arrived; then Err says
// why. Code, Message and Errors are the service's own words, cleaned.
type Error struct {
	Method, URL   string // URL without query
	Status        int
	Code, Message string
	Errors        []FieldError
	RequestID     string // as sent; it is in the service's log
	Err           error

	retryAfter time.Duration
	passing    bool // a lost connection that another attempt may not lose
}

// Error gives method, URL and what came back.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: ", e.Method, e.URL)
	if e.Status != 0 {
		fmt.Fprintf(&b, "%d %s", e.Status, statusText(e.Status))
		if e.Code != "" {
			fmt.Fprintf(&b, " (%s)", e.Code)
		}
		if e.Message != "" {
			b.WriteString(": " + e.Message)
		}
		for _, f := range e.Errors {
			fmt.Fprintf(&b, "; %s: %s", f.Field, f.Code)
			if f.Message != "" {
				b.WriteString(" " + f.Message)
			}
		}
		if e.Err != nil {
			b.WriteString(": ")
		}
	}
	if e.Err != nil {
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

func statusText(code int) string {
	if t := http.StatusText(code); t != "" {
		return strings.ToLower(t)
	}
	return "unknown status"
}

// Unwrap returns the cause, when there is one besides the status.
func (e *Error) Unwrap() error { return e.Err }

// Is maps the status to the sentinel errors of this package.
func (e *Error) Is(target error) bool {
	switch e.Status {
	case http.StatusNotFound, http.StatusGone:
		return target == ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return target == ErrAuth
	case http.StatusMethodNotAllowed:
		return target == ErrNotAllowed
	case http.StatusConflict:
		return target == ErrConflict
	case http.StatusPreconditionFailed:
		return target == ErrPrecondition
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return target == ErrInvalid
	case http.StatusTooManyRequests:
		return target == ErrThrottled
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return target == ErrUnavailable
	}
	return false
}

const (
	maxErrorBody   = 64 << 10
	maxFieldErrors = 32
)

// decode fills Code, Message and Errors from an error body: a JSON object, of
// which any field may be missing or of another type (disk errors of IMGAPI have
// no code). Any other body becomes a short note of its kind.
func (e *Error) decode(contentType string, body []byte) {
	if len(body) == 0 {
		return
	}
	var raw struct{ Code, Message, Errors json.RawMessage }
	if err := json.Unmarshal(body, &raw); err != nil {
		e.Message = fmt.Sprintf("%d bytes of %s instead of a JSON error", len(body), kind(contentType))
		return
	}
	e.Code, e.Message = text(raw.Code), text(raw.Message)
	var list []json.RawMessage
	if json.Unmarshal(raw.Errors, &list) != nil {
		return
	}
	for _, item := range list[:min(len(list), maxFieldErrors)] {
		var f struct{ Field, Code, Message json.RawMessage }
		if json.Unmarshal(item, &f) == nil {
			e.Errors = append(e.Errors, FieldError{text(f.Field), text(f.Code), text(f.Message)})
		}
	}
}

// text is a JSON string, cleaned, or nothing for any other value.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return Clean(s)
}

func kind(contentType string) string {
	t, _, _ := strings.Cut(contentType, ";")
	if t = strings.TrimSpace(t); t == "" {
		return "unnamed content"
	}
	return Clean(t)
}

// redirectError marks a redirect that was not followed.
type redirectError struct{ why string }

func (e *redirectError) Error() string { return e.why }

// errPin marks a server certificate that is not the pinned one.
var errPin = errors.New("not the pinned certificate")

func isJSON(contentType string) bool {
	t, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	t = strings.TrimSpace(t)
	return t == "application/json" || strings.HasSuffix(t, "+json")
}

// readBounded reads at most limit bytes; more is [ErrTooLarge].
func readBounded(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return b, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return b, nil
}
