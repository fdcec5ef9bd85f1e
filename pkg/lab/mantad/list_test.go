package mantad

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestListingsPageByAnInclusiveMarker(t *testing.T) {
	l := newLab(t)
	var want []string
	for i := range 25 {
		n := fmt.Sprintf("n%02d", i)
		want = append(want, n)
		if i%5 == 0 {
			l.mkdir("/admin/stor/" + n)
		} else {
			l.mustPut("/admin/stor/"+n, n)
		}
	}
	for _, reverse := range []bool{false, true} {
		var got []string
		marker, q := "", ""
		if reverse {
			q = "&sort_order=reverse"
		}
		for {
			a := l.do("GET", "/admin/stor?limit=10&marker="+marker+q)
			if n := a.header.Get("Result-Set-Size"); n != "25" {
				t.Fatalf("result-set-size %q", n)
			}
			page := entryNames(t, a.body)
			if marker != "" {
				if page[0] != marker {
					t.Fatalf("the marker %s did not come again: %v", marker, page)
				}
				page = page[1:]
			}
			got = append(got, page...)
			if len(page) < 9 {
				break
			}
			marker = page[len(page)-1]
		}
		if reverse {
			slices.Reverse(got)
		}
		if !slices.Equal(got, want) {
			t.Errorf("reverse %v: %v", reverse, got)
		}
	}
	if got := entryNames(t, l.do("GET", "/admin/stor?dir").body); len(got) != 5 {
		t.Errorf("dir: %v", got)
	}
	if got := entryNames(t, l.do("GET", "/admin/stor?obj&limit=3").body); !slices.Equal(got, []string{"n01", "n02", "n03"}) {
		t.Errorf("obj: %v", got)
	}
	if got := entryNames(t, l.do("GET", "/admin/stor?marker=n23x&limit=5").body); !slices.Equal(got, []string{"n24"}) {
		t.Errorf("marker between names: %v", got)
	}
	if got := entryNames(t, l.do("GET", "/admin/stor?marker=n22x&limit=2&sort_order=reverse").body); !slices.Equal(got, []string{"n22", "n21"}) {
		t.Errorf("marker between names, reverse: %v", got)
	}
	if a := l.do("GET", "/admin/stor?marker=zzz"); a.status != 200 || a.body != "" {
		t.Errorf("beyond the end: %d %q", a.status, a.body)
	}
}

func TestListingsTellWhatTheServiceTells(t *testing.T) {
	l := newLab(t)
	put := l.mustPut("/admin/stor/o", "hello", "Content-Type: text/plain", "Durability-Level: 3")
	l.mkdir("/admin/stor/d")
	a := l.do("GET", "/admin/stor")
	if ct := a.header.Get("Content-Type"); ct != "application/x-json-stream; type=directory" {
		t.Errorf("content-type %q", ct)
	}
	type line struct {
		Name, Etag, Type, ContentType, ContentMD5, Mtime string
		Size, Durability                                 *int
	}
	var got []line
	for s := range strings.Lines(a.body) {
		var e line
		if err := json.Unmarshal([]byte(s), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if len(got) != 2 {
		t.Fatalf("%s", a.body)
	}
	if d := got[0]; d.Name != "d" || d.Type != "directory" || d.Etag != "" || d.Size != nil || d.Durability != nil {
		t.Errorf("directory: %+v", d)
	}
	o := got[1]
	if o.Name != "o" || o.Type != "object" || o.Etag != put.header.Get("Etag") || *o.Size != 5 || *o.Durability != 3 || o.ContentType != "text/plain" || o.ContentMD5 != md5Text("hello") {
		t.Errorf("object: %s", a.body)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000Z", o.Mtime); err != nil {
		t.Error(err)
	}
	top := entryNames(t, l.do("GET", "/admin").body)
	if !slices.Equal(top, []string{"public", "reports", "stor"}) {
		t.Errorf("account: %v", top)
	}
	if got := entryNames(t, l.do("GET", "/admin?marker=public").body); !slices.Equal(got, []string{"reports", "stor"}) {
		t.Errorf("account with marker: %v", got)
	}
}

func TestListingsSortByTime(t *testing.T) {
	at := time.Now()
	l := newLab(t, func(c *Config) { c.Clock = func() time.Time { return at } })
	for _, n := range []string{"b", "c", "a"} {
		l.mustPut("/admin/stor/"+n, n)
		at = at.Add(time.Second)
	}
	for q, want := range map[string]string{"": "a b c", "sort=mtime": "a c b", "sort=mtime&sort_order=reverse": "b c a"} {
		if got := strings.Join(entryNames(t, l.do("GET", "/admin/stor?"+q).body), " "); got != want {
			t.Errorf("%s: %s", q, got)
		}
	}
	marker := at.Add(-2 * time.Second).UTC().Format("2006-01-02T15:04:05.000Z")
	if got := strings.Join(entryNames(t, l.do("GET", "/admin/stor?sort=mtime&marker="+marker).body), " "); got != "c b" {
		t.Errorf("marker: %s", got)
	}
}

// TestOddNamesStayWhatTheyAre: nothing is normalised, and no name reaches the disk.
func TestOddNamesStayWhatTheyAre(t *testing.T) {
	l := newLab(t)
	names := []string{"..", ".", "...", " ", "a b+é", "new\nline", `quo"te\`, "%41", "tab\t", "-", "日本", strings.Repeat("n", 300), "~~", "<&>", "\u2028"}
	for _, n := range names {
		l.mustPut("/admin/stor/"+url.PathEscape(n), n)
	}
	want := slices.Clone(names)
	slices.Sort(want)
	if got := l.names("/admin/stor"); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, n := range names {
		if a := l.do("GET", "/admin/stor/"+url.PathEscape(n)); a.body != n {
			t.Errorf("%q: %d %q", n, a.status, a.body)
		}
	}
	l.mkdir("/admin/stor/d")
	l.mustPut("/admin/stor/d%2Fin", "in d") // an escaped slash parts names
	if a := l.do("GET", "/admin/stor/d/in"); a.body != "in d" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := l.do("GET", "/admin//stor///d//in/"); a.body != "in d" {
		t.Errorf("repeated slashes: %d %s", a.status, a.body)
	}
	for path, status := range map[string]int{
		"/admin/stor/..%2F..%2Fetc": 404, "/admin/stor/../../etc/passwd": 404, "/admin/stor/nul%00": 500,
		"/admin/stor/%ff": 400, "/admin/stor/x%2F": 400, "/admin/stor/" + strings.Repeat("n", 2800): 500,
	} {
		if path == "/admin/stor/../../etc/passwd" || path == "/admin/stor/..%2F..%2Fetc" {
			// ".." is an object here, and there is nothing below it.
			if a := l.do("GET", path); a.status != status {
				t.Errorf("%.40s: %d %s", path, a.status, a.body)
			}
			continue
		}
		if a := l.put(path, "x"); a.status != status {
			t.Errorf("%.40s: %d %s", path, a.status, a.body)
		}
	}
}

func TestTheIndexAgreesWithASortedSlice(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var d dirIndex
	model := map[string]*entry{}
	for i := range 20000 {
		name := fmt.Sprintf("%05d", rnd.IntN(6000))
		if i < 8000 {
			name = fmt.Sprintf("%05d", i)
		}
		if rnd.IntN(3) == 0 {
			if got := d.del(name); got != model[name] {
				t.Fatalf("del %s", name)
			}
			delete(model, name)
			continue
		}
		e := &entry{name: name}
		if got := d.set(e); got != model[name] {
			t.Fatalf("set %s", name)
		}
		model[name] = e
	}
	var want []string
	for n := range model {
		want = append(want, n)
		if d.get(n) != model[n] {
			t.Fatalf("get %s", n)
		}
	}
	slices.Sort(want)
	if d.n != len(want) {
		t.Fatalf("count %d, want %d", d.n, len(want))
	}
	for range 200 {
		from := fmt.Sprintf("%05d", rnd.IntN(9000))
		var got []string
		d.ascend(from, func(e *entry) bool { got = append(got, e.name); return true })
		at, exact := slices.BinarySearch(want, from)
		if !slices.Equal(got, want[at:]) {
			t.Fatalf("ascend from %s: %d names, want %d", from, len(got), len(want)-at)
		}
		if exact {
			at++
		}
		got = nil
		d.descend(from, false, func(e *entry) bool { got = append(got, e.name); return true })
		slices.Reverse(got)
		if !slices.Equal(got, want[:at]) {
			t.Fatalf("descend from %s: %d names, want %d", from, len(got), at)
		}
	}
}

func FuzzPathsStayInTheirAccount(f *testing.F) {
	for _, s := range []string{"/admin/stor/a", "/admin/stor/..%2F..", "//admin//stor/%2e%2e/x", "/admin/stor/%00", "/admin/stor/?x=1", "/%61dmin/stor/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		target := strip(raw)
		if strings.Contains(target, "//") {
			t.Fatalf("%q: repeated slash left: %q", raw, target)
		}
		path, _, _ := strings.Cut(target, "?")
		path = strings.TrimRight(path, "/")
		if routeOf(path) != routeArea {
			return
		}
		key, err := decodeKey(path)
		if err != nil {
			return
		}
		dir, name := splitPath(key)
		if name == "" || dir+"/"+name != key || strings.Contains(key, "\x00") || len(key) > maxKey {
			t.Fatalf("%q: key %q", raw, key)
		}
		raw0 := strings.SplitN(path, "/", 4)
		if k := strings.SplitN(key, "/", 4); k[2] != raw0[2] && !strings.Contains(raw0[1], "%") {
			t.Fatalf("%q: left its area: %q", raw, key)
		}
	})
}

func FuzzJSONStrings(f *testing.F) {
	f.Add("a\"\\\n\x01é\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(appendJSON(nil, s), &got); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(s, "\uFFFD"); strings.ToValidUTF8(got, "\uFFFD") != want && !strings.Contains(got, "\uFFFD") {
			t.Fatalf("%q became %q", s, got)
		}
	})
}
