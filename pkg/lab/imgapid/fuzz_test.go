package imgapid

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func FuzzListImagesQuery(f *testing.F) {
	for _, q := range []string{"", "state=all&limit=2&marker=2015-01-01&sort=published_at.DESC", "name=~x&type=!zvol&tag.a=b&account=" + owner,
		"limit=-1", "limit=1e300", "limit=0x10", "a=b&a=c&=&%zz=%", "public=maybe", "sort=..", "owner=" + owner + "&account=" + owner + "&public=true"} {
		f.Add(q)
	}
	var images []*image
	r := newRules("public", false)
	for i := range 5 {
		uuid := fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)
		raw, warn := loadManifest(uuid, []byte(fmt.Sprintf(`{"v":2,"uuid":%q,"owner":%q,"name":"n%d","version":"1","os":"linux","type":"zvol","public":true,"disabled":false,
			"activated":%v,"state":"active","published_at":"2015-01-0%dT00:00:00Z","files":[{"sha1":"a","size":1,"compression":"gzip","stor":"local"}],
			"nic_driver":"virtio","disk_driver":"virtio","cpu_type":"host","image_size":1}`, uuid, owner, i, i%2 == 0, i+1)), r)
		if warn != "" {
			f.Fatal(warn)
		}
		images = append(images, newImage(raw, func(s string) string { return s }))
	}
	find := func(u string) *image {
		for _, im := range images {
			if im.uuid == u {
				return im
			}
		}
		return nil
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q := parseQuery(raw)
		for _, anonymous := range []bool{true, false} {
			l, err := parseListing(q, anonymous, "")
			if err == nil {
				err = l.setMarker(q.get("marker"), find)
			}
			if err != nil {
				continue
			}
			hits, err := l.run(images)
			if err != nil {
				continue
			}
			seen := map[string]bool{}
			for _, im := range hits {
				if seen[im.uuid] {
					t.Errorf("%q: %s twice", raw, im.uuid)
				}
				seen[im.uuid] = true
				if anonymous && im.field("activated") != "true" {
					t.Errorf("%q: an anonymous caller sees an unactivated image", raw)
				}
			}
			if l.limit > 0 && float64(len(hits)) > l.limit {
				t.Errorf("%q: %d hits", raw, len(hits))
			}
		}
	})
}

func FuzzManifestLoad(f *testing.F) {
	f.Add([]byte(`{"v":2,"uuid":"` + owner + `","owner":"` + owner + `","name":"a","version":"1","os":"linux","type":"other","public":true,"disabled":false,"activated":false,"state":"unactivated"}`))
	f.Add([]byte(`{"v":"2","uuid":"` + owner + `","tags":["a=b","c"],"acl":"x","icon":{"size":1},"requirements":{"networks":[1],"min_ram":-1,"min_platform":{"7.0":"x"},"bootrom":"uefi"}}`))
	f.Add([]byte(`{"uuid":"` + owner + `","files":[1,{"compression":"zip"},null],"users":{},"traits":[],"channels":{},"billing_tags":"a","error":1,"image_size":"1.5"}`))
	f.Add([]byte(strings.Repeat("[", 2000)))
	f.Add([]byte(`{"a":{"a":1,"a":2},"b":1e400}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, r := range []rules{newRules("public", false), newRules("private", true)} {
			raw, warn := loadManifest(owner, b, r)
			if warn != "" {
				continue
			}
			text := indented(raw)
			if !json.Valid(text) {
				t.Fatalf("%q becomes invalid JSON %q", b, text)
			}
			again, warn := loadManifest(owner, text, r)
			if warn != "" || !bytes.Equal(indented(again), text) {
				t.Errorf("%q: what was written does not read back: %s", b, warn)
			}
			im := newImage(raw, func(s string) string { return s })
			for _, w := range []view{{mode: r.mode}, {mode: r.mode, channels: true, admin: true}} {
				if p := compact(w.public(im.object())); !json.Valid(p) {
					t.Errorf("%q: public form %q", b, p)
				}
			}
		}
	})
}

func FuzzAcceptVersion(f *testing.F) {
	for _, v := range []string{"~1", "2.0.0", "*", ">=1 ", "~9||~2", "1.x", "a", "^1.2.3.4"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if r, ok := parseVersion(s); ok && len(r) == 0 {
			t.Errorf("%q: no alternatives", s)
		}
	})
}

func TestJSONKeepsOrderAndEscapesAsTheRuntimeDoes(t *testing.T) {
	const text = `{"z":1,"a":[],"o":{},"s":"<&>é \u0001\n\"\\/","n":null,"f":1.50,"z":2}`
	v, err := parseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"z":2,"a":[],"o":{},"s":"<&>é \u0001\n\"\\/","n":null,"f":1.50}`
	if got := string(compact(v)); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	for _, bad := range []string{"", "{", "[1,]", "1 2", strings.Repeat("[", maxDepth+2) + strings.Repeat("]", maxDepth+2)} {
		if _, err := parseJSON([]byte(bad)); err == nil {
			t.Errorf("%.20q accepted", bad)
		}
	}
}
