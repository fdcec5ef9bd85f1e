package manta

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func names(c *Client, t *testing.T, dir string, o ListOptions) ([]string, error) {
	t.Helper()
	var l []string
	for e, err := range c.List(t.Context(), dir, o) {
		if err != nil {
			return l, err
		}
		l = append(l, e.Name)
	}
	return l, nil
}

func (f *front) fill(dir string, n int) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirs[dir] = true
	var l []string
	base := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		name := fmt.Sprintf("f %05d", i)
		l = append(l, name)
		f.objects[dir+"/"+name] = &object{etag: "e" + strconv.Itoa(i), data: []byte("x"), mtime: base.Add(time.Duration(i/3) * time.Second)}
	}
	return l
}

func TestListYieldsEveryEntryOnceWhateverTheMarkerMeans(t *testing.T) {
	for _, barred := range []bool{false, true} {
		for _, bare := range []bool{false, true} {
			for _, n := range []int{0, 1, 1023, 1024, 1025, 2047, 2048, 3000} {
				f := newFront(t, false)
				f.barred, f.bare = barred, bare
				want := f.fill("/bob/stor/d", n)
				got, err := names(f.client(), t, "/bob/stor/d", ListOptions{})
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("exclusive %v, bare %v, %d: %d entries, %v", barred, bare, n, len(got), err)
				}
			}
		}
	}
}

func TestListHonoursItsOptions(t *testing.T) {
	f := newFront(t, false)
	c := f.client()
	all := f.fill("/bob/stor/d", 2500)
	f.dirs["/bob/stor/d/sub"] = true
	reversed := slices.Clone(all)
	slices.Reverse(reversed)
	for name, tc := range map[string]struct {
		o    ListOptions
		want []string
	}{
		"objects":         {ListOptions{Objects: true}, all},
		"directories":     {ListOptions{Dirs: true}, []string{"sub"}},
		"both":            {ListOptions{Dirs: true, Objects: true}, append(slices.Clone(all), "sub")},
		"limit":           {ListOptions{Limit: 5}, all[:5]},
		"limit of a page": {ListOptions{Limit: 1024}, all[:1024]},
		"limit over":      {ListOptions{Limit: 1025}, all[:1025]},
		"marker":          {ListOptions{Marker: all[2000], Objects: true}, all[2001:]},
		"marker, limit":   {ListOptions{Marker: all[2000], Limit: 2}, all[2001:2003]},
		"marker between":  {ListOptions{Marker: all[2000] + "x", Limit: 2}, all[2001:2003]},
		"last marker":     {ListOptions{Marker: "sub"}, nil},
		"reverse":         {ListOptions{Reverse: true, Objects: true}, reversed},
	} {
		if got, err := names(c, t, "/bob/stor/d", tc.o); err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%s: %d entries %.3q, want %d %.3q: %v", name, len(got), got, len(tc.want), tc.want, err)
		}
	}
	f.requests()
	if _, err := names(c, t, "/bob/stor/d", ListOptions{Limit: 3}); err != nil {
		t.Error(err)
	}
	if got := f.requests(); len(got) != 1 || got[0] != "GET /bob/stor/d?limit=4" {
		t.Errorf("for three entries: %q", got)
	}
	delete(f.dirs, "/bob/stor/d/sub")
	for _, reverse := range []bool{false, true} {
		var last time.Time
		seen := map[string]bool{}
		for e, err := range c.List(t.Context(), "/bob/stor/d", ListOptions{SortMTime: true, Reverse: reverse}) {
			if err != nil {
				t.Fatal(err)
			}
			if len(seen) > 0 && e.MTime != last && e.MTime.After(last) != reverse {
				t.Fatalf("reverse %v: %v after %v", reverse, e.MTime, last)
			}
			last, seen[e.Name] = e.MTime, true
		}
		if len(seen) != len(all) {
			t.Errorf("by time, reverse %v: %d entries", reverse, len(seen))
		}
	}
}

func TestListTellsWhatTheServiceTold(t *testing.T) {
	f := newFront(t, false)
	o := f.put("/bob/stor/o", []byte("abc"))
	f.dirs["/bob/stor/p"] = true
	for _, bare := range []bool{false, true} {
		f.bare = bare
		var l []Info
		for e, err := range f.client().List(t.Context(), "/bob/stor/", ListOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			l = append(l, e)
		}
		if len(l) != 2 || l[0].Path != "/bob/stor/o" || l[0].ETag != o.etag || l[0].Size != 3 || (l[0].MD5 == nil) != bare ||
			!l[0].MTime.Equal(o.mtime) || !l[1].IsDir() || l[1].Path != "/bob/stor/p" {
			t.Errorf("%+v", l)
		}
	}
	if _, err := names(f.client(), t, "/bob/stor/o", ListOptions{}); !errors.Is(err, ErrNotDirectory) {
		t.Errorf("an object: %v", err)
	}
	if _, err := names(f.client(), t, "/bob/stor/none", ListOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("nothing: %v", err)
	}
}

// serveLines answers listings with a body of its own.
func serveLines(f *front, size int, body func(r *http.Request) string) {
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", "application/x-json-stream; type=directory")
		if size >= 0 {
			w.Header().Set("Result-Set-Size", strconv.Itoa(size))
		}
		w.Write([]byte(body(r)))
		return true
	}
}

func objectLine(name string) string {
	return fmt.Sprintf(`{"name":%q,"type":"object","size":1,"mtime":"2026-11-22T18:35:21.000Z"}`, name) + "\n"
}

func TestHostileListingsAreErrorsThatNameTheDirectory(t *testing.T) {
	endless := func(r *http.Request) string {
		var b strings.Builder
		m := r.URL.Query().Get("marker")
		n, _ := strconv.Atoi(m)
		for i := range 1024 {
			b.WriteString(objectLine(fmt.Sprintf("%09d", n+i)))
		}
		return b.String()
	}
	fixed := func(s string) func(*http.Request) string { return func(*http.Request) string { return s } }
	ok := objectLine("a")
	for name, tc := range map[string]struct {
		size int
		body func(*http.Request) string
		says string
	}{
		"slash":                  {-1, fixed(objectLine("a/b")), "slash"},
		"dots":                   {-1, fixed(objectLine("..")), `".."`},
		"one dot":                {-1, fixed(objectLine(".")), `"."`},
		"empty name":             {-1, fixed(objectLine("")), `""`},
		"NUL":                    {-1, fixed(`{"name":"a\u0000b","type":"object","size":1}`), "NUL"},
		"no name":                {-1, fixed(`{"type":"object","size":1}`), "no name"},
		"name of another type":   {-1, fixed(`{"name":1,"type":"object","size":1}`), "line"},
		"lone surrogate":         {-1, fixed(`{"name":"a\ud800","type":"object","size":1}`), "Unicode"},
		"bytes that are no text": {-1, fixed("{\"name\":\"a\xff\",\"type\":\"object\",\"size\":1}"), "UTF-8"},
		"no size":                {-1, fixed(`{"name":"a","type":"object"}`), "no size"},
		"negative size":          {-1, fixed(`{"name":"a","type":"object","size":-1}`), "no size"},
		"unknown type":           {-1, fixed(`{"name":"a","type":"link"}`), "type"},
		"no time":                {-1, fixed(`{"name":"a","type":"directory","mtime":"yesterday"}`), "time"},
		"truncated line":         {-1, fixed(ok + `{"name":"b","ty`), "line"},
		"not JSON":               {-1, fixed("<html>"), "line"},
		"goes back":              {-1, fixed(objectLine("b") + ok), "goes back"},
		"repeats":                {-1, fixed(ok + objectLine("b") + ok), "goes back"},
		"long line":              {-1, fixed(`{"name":"` + strings.Repeat("x", maxLine) + `"}`), "line of more than"},
		"more than asked for":    {-1, fixed(endless(&http.Request{URL: testURL}) + objectLine("z")), "more than the 1024"},
		"the same page for ever": {-1, fixed(endless(&http.Request{URL: testURL})), "goes back"},
		"fewer than it says":     {7, fixed(ok), "after 1 of 7"},
		"none of what it says":   {7, fixed(""), "after 0 of 7"},
	} {
		f := newFront(t, false)
		serveLines(f, tc.size, tc.body)
		_, err := names(f.client(), t, "/bob/stor/dir", ListOptions{})
		if !errors.Is(err, ErrListing) || !strings.Contains(fmt.Sprint(err), "/bob/stor/dir") || !strings.Contains(fmt.Sprint(err), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAListingWithoutEndIsGivenUp(t *testing.T) {
	f := newFront(t, false)
	serveLines(f, -1, func(r *http.Request) string {
		var b strings.Builder
		n, _ := strconv.Atoi(r.URL.Query().Get("marker"))
		for i := range 1024 {
			fmt.Fprintf(&b, "{\"name\":\"%09d\",\"type\":\"directory\"}\n", n+i)
		}
		return b.String()
	})
	n := 0
	l := &lister{c: f.client(), dir: "/bob/stor/dir", page: pageSize, most: 20_000}
	err := l.run(t.Context(), func(Info, error) bool { n++; return true })
	if !errors.Is(err, ErrListing) || !strings.Contains(err.Error(), "no end") || n != l.most {
		t.Errorf("after %d entries: %v", n, err)
	}
}

// The service ends a listing that fails inside like a complete one.
func TestAListingThatEndsEarlyIsContinued(t *testing.T) {
	f := newFront(t, false)
	want := f.fill("/bob/stor/d", 30)
	var n atomic.Int32
	short := func(from, to int) string {
		var b strings.Builder
		for _, name := range want[from:to] {
			b.WriteString(objectLine(name))
		}
		return b.String()
	}
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if n.Add(1) > 1 {
			return false
		}
		w.Header().Set("Content-Type", "application/x-json-stream; type=directory")
		w.Header().Set("Result-Set-Size", "30")
		w.Write([]byte(short(0, 11)))
		return true
	}
	got, err := names(f.client(), t, "/bob/stor/d", ListOptions{})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%d entries, %v", len(got), err)
	}
}

func TestAnEntryRemovedMeanwhileIsNotAnIncompleteListing(t *testing.T) {
	f := newFront(t, false)
	var n atomic.Int32
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", "application/x-json-stream; type=directory")
		w.Header().Set("Result-Set-Size", strconv.Itoa(4-int(n.Add(1)))) // 3 counted, then one was removed
		if r.URL.Query().Get("marker") == "" {
			w.Write([]byte(objectLine("a")))
		}
		w.Write([]byte(objectLine("b")))
		return true
	}
	if got, err := names(f.client(), t, "/bob/stor/d", ListOptions{}); err != nil || len(got) != 2 {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAListingThatBreaksIsReadAgainAndAnUnframedOneNotBelieved(t *testing.T) {
	f := newFront(t, false)
	want := f.fill("/bob/stor/d", 10)
	var n atomic.Int32
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/x-json-stream; type=directory\r\n"
	raw := func(w http.ResponseWriter, s string) {
		if c, bw, err := w.(http.Hijacker).Hijack(); err == nil {
			bw.WriteString(s)
			bw.Flush()
			c.Close()
		}
	}
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if n.Add(1) > 1 {
			return false
		}
		raw(w, head+"Content-Length: 500\r\n\r\n"+objectLine(want[0]))
		return true
	}
	if got, err := names(f.client(), t, "/bob/stor/d", ListOptions{}); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		raw(w, head+"Connection: close\r\n\r\n"+objectLine("a"))
		return true
	}
	if _, err := names(f.client(), t, "/bob/stor/d", ListOptions{}); !errors.Is(err, ErrListing) {
		t.Errorf("an end by closing: %v", err)
	}
}
