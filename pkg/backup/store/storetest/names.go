package storetest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

func nameTests() group {
	return group{
		"odd but printable names are kept as they are":  oddNames,
		"hostile keys are refused before anything else": hostileKeys,
	}
}

// BadKeys returns keys that every store refuses.
func BadKeys() []string {
	return []string{
		"", "/", ".", "..", "a/..", "../a", "a/../b", "a/./b", "/etc/passwd", "a//b", "a/", "a\x00b", "a\nb", "a\rb", "a\tb",
		"a\x1b[2Jb", "a\x7fb", "a\u009b2Jb", "a\xffb", `a\b`, `..\a`, "a/" + strings.Repeat("x", 256), strings.Repeat("x", 300),
		strings.Repeat("a/", 600) + "a",
	}
}

func oddNames(t *testing.T, e *env) {
	names := []string{
		"with space", "%41", "%2e%2e", "%00", "100%", "a+b", "a?b", "a#b", "a&b=c", "a:b", "a;b", "a*b", "a|b", "<a>", "\"q\"", "'q'", "`q`", "$HOME", "~", "~root",
		"...", ".hidden", "-rf", "CON", "aux.txt", "ünï", "日本", "😀", "@", "(a)", "[a]", "{a}", "a,b", "a=b", "!", "^", strings.Repeat("x", 255), strings.Repeat("é", 127),
	}
	for _, name := range names {
		e.put(t, "odd/"+name, name)
		e.put(t, "dirs/"+name+"/x", name)
	}
	for _, name := range names {
		e.wants(t, "odd/"+name, name)
		e.wants(t, "dirs/"+name+"/x", name)
	}
	for _, dir := range []string{"odd", "dirs"} {
		var want []string
		for _, name := range names {
			want = append(want, dir+"/"+name)
		}
		slices.Sort(want)
		if got := keys(e.list(t, dir)); !slices.Equal(got, want) {
			t.Errorf("listed %q\nwant   %q", got, want)
		}
	}
	for _, name := range names {
		if err := e.s.Delete(e.ctx, "odd/"+name, store.Condition{}); err != nil {
			t.Errorf("delete %q: %v", name, err)
		}
	}
	if l := e.list(t, "odd"); len(l) != 0 {
		t.Errorf("left: %q", keys(l))
	}
}

func hostileKeys(t *testing.T, e *env) {
	for _, key := range BadKeys() {
		_, put := e.s.Put(e.ctx, key, store.Bytes("x"), store.Condition{})
		rc, _, get := e.s.Get(e.ctx, key)
		if get == nil {
			rc.Close()
		}
		_, head := e.s.Head(e.ctx, key)
		errs := map[string]error{"put": put, "get": get, "head": head, "delete": e.s.Delete(e.ctx, key, store.Condition{})}
		if key != "" { // the top may be listed
			for _, err := range e.s.List(e.ctx, key) {
				errs["list"] = err
			}
			if errs["list"] == nil {
				t.Errorf("list %q: no error", abbreviate(key))
			}
		}
		for what, err := range errs {
			if !errors.Is(err, store.ErrBadKey) {
				t.Errorf("%s %q: %v; want ErrBadKey", what, abbreviate(key), err)
			}
		}
	}
	if l := e.list(t, ""); len(l) != 0 {
		t.Errorf("something was made: %q", keys(l))
	}
}
