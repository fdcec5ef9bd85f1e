package imgapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tritonops/tritonops/pkg/rest"
)

func imageJSON(n int) string {
	return fmt.Sprintf(`{"v":2,"uuid":"%08x-0000-4000-8000-000000000000","name":"base","version":"%d.0","state":"active","os":"smartos",`+
		`"type":"zone-dataset","public":true,"published_at":"2024-01-02T03:04:05Z","files":[{"sha1":"ab","size":%d,"compression":"gzip"}]}`, n, n, n)
}

func collect(t *testing.T, c *Client, f Filter) (uuids []string, err error) {
	t.Helper()
	for img, err := range c.ListImages(t.Context(), f) {
		if err != nil {
			return uuids, err
		}
		uuids = append(uuids, img.UUID)
	}
	return uuids, nil
}

func TestAListIsYieldedInOrderWithItsFields(t *testing.T) {
	url := strict(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RequestURI() != "/images" {
			t.Errorf("asked %s", r.URL.RequestURI())
		}
		reply(w, 200, " [ "+imageJSON(1)+" ,\n"+imageJSON(2)+"]\n")
	})
	c := newClient(t, url, nil)
	uuids, err := collect(t, c, Filter{})
	if err != nil || len(uuids) != 2 || !strings.HasPrefix(uuids[0], "00000001-") {
		t.Fatalf("%q, %v", uuids, err)
	}
	for img := range c.ListImages(t.Context(), Filter{}) {
		if img.Name != "base" || img.Files[0].Size != 1 || img.PublishedAt.Year() != 2024 || !strings.Contains(string(img.Raw), `"v":2`) {
			t.Errorf("%+v", img)
		}
		break // leaving early must not disturb
	}
}

func TestAFilterSendsOnlyWhatItSays(t *testing.T) {
	yes := true
	for want, f := range map[string]Filter{
		"/images": {},
		"/images?channel=%2A&inclAdminFields=true&limit=5&name=~ba&public=true&state=all&tag.role=web": {
			Channel: "*", InclAdminFields: true, Limit: 5, Name: "~ba", Public: &yes, State: "all", Tags: map[string]string{"role": "web"}},
	} {
		url := strict(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RequestURI() != want {
				t.Errorf("asked %s, want %s", r.URL.RequestURI(), want)
			}
			reply(w, 200, "[]")
		})
		if _, err := collect(t, newClient(t, url, nil), f); err != nil {
			t.Error(err)
		}
	}
	if _, err := collect(t, newClient(t, "http://127.0.0.1:1", nil), Filter{Limit: -1}); err == nil {
		t.Error("a negative limit was sent")
	}
}

func TestHostileListsAreErrorsNeverShortLists(t *testing.T) {
	junk := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { reply(w, 200, s) }
	}
	endless := func(start, unit string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, start)
			for {
				if _, err := io.WriteString(w, unit); err != nil {
					return
				}
			}
		}
	}
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		is   error
		text string
		n    int
	}{
		"object":        {junk(`{"code":"x"}`), rest.ErrNotJSON, "not an array", 0},
		"null":          {junk(`null`), rest.ErrNotJSON, "not an array", 0},
		"nothing":       {junk(``), io.ErrUnexpectedEOF, "cut short", 0},
		"numbers":       {junk(`[1,2,3]`), ErrElement, "element 0", 0},
		"nulls":         {junk(`[null]`), ErrElement, "no object", 0},
		"no uuid":       {junk(`[` + imageJSON(1) + `,{"name":"x"}]`), ErrElement, "element 1", 1},
		"bad uuid":      {junk(`[{"uuid":"../../etc/passwd","name":"x","version":"1"}]`), ErrElement, "uuid is", 0},
		"wrong type":    {junk(`[{"uuid":"` + uuid1 + `","name":["x"],"version":"1"}]`), ErrElement, "element 0", 0},
		"cut":           {junk(`[` + imageJSON(1) + `,` + imageJSON(2)[:50]), io.ErrUnexpectedEOF, "after 1 images", 1},
		"unclosed":      {junk(`[` + imageJSON(1)), io.ErrUnexpectedEOF, "after 1 images", 1},
		"trailing":      {junk(`[` + imageJSON(1) + `] []`), rest.ErrNotJSON, "follows the array", 1},
		"bad syntax":    {junk(`[` + imageJSON(1) + `,}]`), nil, "", 1},
		"html":          {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html><body>sorry</body></html>") }, rest.ErrNotJSON, "text/html", 0},
		"huge element":  {endless(`[{"uuid":"`, strings.Repeat("a", 4096)), rest.ErrTooLarge, "65536", 0},
		"endless space": {endless(`[`, strings.Repeat(" ", 4096)), rest.ErrTooLarge, "65536", 0},
		"deep":          {endless(`[`, strings.Repeat(`[`, 4096)), nil, "", 0},
		"no bracket":    {endless(``, strings.Repeat("\n", 4096)), rest.ErrTooLarge, "65536", 0},
		"stall": {func(w http.ResponseWriter, r *http.Request) {
			reply(w, 200, `[`+imageJSON(1)+`,`)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, rest.ErrStalled, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			uuids, err := collect(t, newClient(t, strict(t, c.h), nil), Filter{})
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) || len(uuids) != c.n {
				t.Errorf("%d images, error %v; want %d, %v, %q", len(uuids), err, c.n, c.is, c.text)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("an error text of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestAnElementJustWithinTheLimitIsTakenWhateverCameBefore(t *testing.T) {
	pad := strings.Repeat("x", 63<<10)
	big := func(n int) string {
		return strings.Replace(imageJSON(n), `"v":2`, `"v":2,"description":"`+pad+`"`, 1)
	}
	url := strict(t, func(w http.ResponseWriter, r *http.Request) {
		var parts []string
		for i := range 50 {
			parts = append(parts, big(i), imageJSON(100+i))
		}
		reply(w, 200, "["+strings.Join(parts, ",")+"]")
	})
	uuids, err := collect(t, newClient(t, url, nil), Filter{})
	if err != nil || len(uuids) != 100 {
		t.Errorf("%d images, %v", len(uuids), err)
	}
}

func TestAHundredThousandImagesCostNoMoreMemoryThanOne(t *testing.T) {
	const total = 100_000
	url := strict(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "["+imageJSON(0))
		for i := 1; i < total; i++ {
			if _, err := io.WriteString(w, ","+imageJSON(i)); err != nil {
				return
			}
		}
		io.WriteString(w, "]")
	})
	c := newClient(t, url, nil)
	n, peak := 0, uint64(0)
	var base, m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&base)
	for _, err := range c.ListImages(t.Context(), Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n%10_000 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
	}
	if n != total {
		t.Errorf("%d images", n)
	}
	if grown := int64(peak) - int64(base.HeapAlloc); grown > 2<<20 {
		t.Errorf("live heap grew by %d bytes", grown)
	}
}

func TestGetImageWantsTheImageAskedFor(t *testing.T) {
	other := strings.Replace(imageJSON(7), "00000007", "00000008", 1)
	for body, good := range map[string]bool{imageJSON(7): true, other: false, `{}`: false, `[]`: false, `"x"`: false} {
		url := strict(t, func(w http.ResponseWriter, r *http.Request) { reply(w, 200, body) })
		img, err := newClient(t, url, nil).GetImage(t.Context(), "00000007-0000-4000-8000-000000000000", "")
		if (err == nil) != good {
			t.Errorf("%s: %+v, %v", body, img, err)
		}
	}
	for _, bad := range []string{"", "x", "../ping", strings.ToUpper(uuid1), uuid1 + "/jobs"} {
		if _, err := newClient(t, "http://127.0.0.1:1", nil).GetImage(t.Context(), bad, ""); err == nil || strings.Contains(err.Error(), "refused") {
			t.Errorf("%q was sent: %v", bad, err)
		}
	}
}

func FuzzListImages(f *testing.F) {
	f.Add("[]")
	f.Add("[" + imageJSON(1) + "," + imageJSON(2) + "]")
	f.Add(`[{"uuid":"` + uuid1 + `","name":"a","version":"1","files":[{"size":1e99}]}]`)
	f.Add(`[[[[[[`)
	f.Add(`[1`)
	f.Fuzz(func(t *testing.T, body string) {
		var got []string
		var end error
		for img, err := range decodeList(strings.NewReader(body), 4096) {
			if end != nil {
				t.Fatal("went on after an error")
			}
			if end = err; err != nil {
				continue
			}
			if !ValidUUID(img.UUID) || img.Name == "" || len(img.Raw) > 4096 {
				t.Fatalf("let through: %+v", img)
			}
			got = append(got, img.UUID)
		}
		// The same bytes in one-byte reads give the same answer.
		var again []string
		for img, err := range decodeList(oneByte{strings.NewReader(body)}, 4096) {
			if (err != nil) != (end != nil) && err != nil {
				t.Fatalf("whole: %v, byte by byte: %v", end, err)
			}
			if err == nil {
				again = append(again, img.UUID)
			}
		}
		if !slices.Equal(got, again) {
			t.Fatalf("whole %q, byte by byte %q", got, again)
		}
	})
}

type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

func TestAnImageCanBeAskedForInAnyChannel(t *testing.T) {
	url := strict(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "channel=%2A" {
			t.Errorf("asked %s", r.URL.RequestURI())
		}
		reply(w, 200, imageJSON(7))
	})
	if _, err := newClient(t, url, nil).GetImage(t.Context(), "00000007-0000-4000-8000-000000000000", "*"); err != nil {
		t.Error(err)
	}
}
