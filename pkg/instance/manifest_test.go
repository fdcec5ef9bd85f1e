package instance

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestManifestOnDiskIsParsed(t *testing.T) {
	m, err := ParseManifest([]byte(raw(uuidA)))
	if err != nil {
		t.Fatal(err)
	}
	want := &Manifest{
		V: 2, UUID: uuidA, Name: "base-64", Version: "16.2.0", Owner: UnsetOwner,
		Public: true, Activated: true, OS: "smartos", Type: "zone-dataset", Origin: uuidB,
		PublishedAt: time.Date(2016, 7, 28, 19, 3, 19, 219e6, time.UTC),
		ACL:         []string{"a1b2c3d4-0000-4000-8000-00000000000a"},
		Tags:        map[string]any{"role": "os", "flag": true, "docker:id": "sha256:00"},
		Files: []File{{
			SHA1: "046c168df2244d3a13985f042a50e479fe56455e", Size: 4, Compression: "gzip",
			ContentMD5: "jH3ZIq1HSU/ALDiOEsAOrA==", Stor: "local", MTime: "2013-08-22T20:41:08.978Z", DatasetGUID: "123",
		}},
		Icon: &Icon{
			SHA1: "1b8961b8a349ed987f73d3c5117e970e006b5b7e", Size: 4,
			ContentMD5: "uuxkYbDWnd4bhhrvvjddig==", ContentType: "image/png", Stor: "local",
		},
	}
	if d := cmp.Diff(want, m, cmpopts.IgnoreUnexported(Manifest{})); d != "" {
		t.Error(d)
	}
	if m.State() != "active" || m.String() != "base-64@16.2.0" || m.TagString("docker:id") != "sha256:00" || m.TagString("flag") != "" {
		t.Errorf("state %s, %s, %q", m.State(), m, m.TagString("docker:id"))
	}
}

func TestManifestVariants(t *testing.T) {
	head := `{"v":2,"uuid":"` + uuidA + `",`
	for _, tt := range []struct {
		name, text string
		ok         func(m *Manifest) bool
	}{
		{"API form: tags object, icon true, state tells activation", head + `"state":"disabled","disabled":true,"tags":{"a":"b"},"icon":true}`,
			func(m *Manifest) bool {
				return m.Activated && m.State() == "disabled" && m.Tags["a"] == "b" && m.Icon != nil
			}},
		{"API form: unactivated", head + `"state":"unactivated"}`, func(m *Manifest) bool { return !m.Activated && m.State() == "unactivated" }},
		{"icon false is none", head + `"icon":false}`, func(m *Manifest) bool { return m.Icon == nil }},
		{"no state: computed", head + `"activated":true,"disabled":true}`, func(m *Manifest) bool { return m.State() == "disabled" }},
		{"no state: unactivated", head + `"activated":false}`, func(m *Manifest) bool { return m.State() == "unactivated" }},
		{"no state: active", head + `"activated":true}`, func(m *Manifest) bool { return m.State() == "active" }},
		{"a state of its own", head + `"state":"creating"}`, func(m *Manifest) bool { return m.State() == "creating" && !m.Activated }},
		{"booleans in quotes", head + `"activated":"true","public":"false","disabled":"true"}`, func(m *Manifest) bool { return m.Activated && !m.Public && m.Disabled }},
		{"acl as one string", head + `"acl":"` + uuidB + `"}`, func(m *Manifest) bool { return len(m.ACL) == 1 && m.ACL[0] == uuidB }},
		{"tags from the search array", head + `"tags":["a=b=c","d"]}`, func(m *Manifest) bool { return m.Tags["a"] == "b=c" && m.Tags["d"] == "" && len(m.Tags) == 2 }},
		{"null counts as absent", head + `"name":null,"files":null,"icon":null,"tags":null,"acl":null,"public":null,"image_size":null}`,
			func(m *Manifest) bool { return m.Name == "" && m.Files == nil && m.Icon == nil && m.Tags == nil }},
		{"numbers in other spellings", `{"v":"2","uuid":"` + uuidA + `","files":[{"size":1e3},{"size":"77"},{"size":5.0}]}`,
			func(m *Manifest) bool {
				return m.V == 2 && m.Files[0].Size == 1000 && m.Files[1].Size == 77 && m.Files[2].Size == 5
			}},
		{"of a repeated field the last counts", `{"uuid":"` + uuidB + `","uuid":"` + uuidA + `"}`, func(m *Manifest) bool { return m.UUID == uuidA }},
		{"field names are exact", head + `"UUID":"` + uuidB + `","Name":"x"}`, func(m *Manifest) bool { return m.UUID == uuidA && m.Name == "" }},
		{"brackets in strings do not nest", head + `"description":"` + strings.Repeat(`[{\"`, 2*maxDepth) + `"}`, func(m *Manifest) bool { return len(m.Description) > maxDepth }},
		{"space around it", " \n" + head + `"name":"x"}` + "\r\n", func(m *Manifest) bool { return m.Name == "x" }},
		{"an unreadable time is kept for Rejections", head + `"published_at":"yesterday"}`, func(m *Manifest) bool { return m.PublishedAt.IsZero() && m.publishedAt == "yesterday" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := ParseManifest([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if !tt.ok(m) {
				t.Errorf("parsed as %+v", m)
			}
		})
	}
}

func TestHostileManifestsAreRefusedWithTheField(t *testing.T) {
	head := `{"v":2,"uuid":"` + uuidA + `",`
	for _, tt := range []struct{ text, want string }{
		{`{}`, "uuid: missing"},
		{`{"uuid":5}`, "uuid: must be a string, is a number"},
		{`{"uuid":"` + strings.ToUpper(uuidA) + `"}`, "uuid: not a UUID"},
		{`{"uuid":"../../etc/passwd"}`, "uuid: not a UUID"},
		{`{"uuid":"` + uuidA + `\n"}`, "uuid: not a UUID"},
		{`{"uuid":"` + strings.Repeat("x", 4096) + `"}`, "uuid: not a UUID"},
		{head + `"files":{}}`, "files: must be an array of objects, is an object"},
		{head + `"files":[5]}`, "files: must be an array of objects, is an array"},
		{head + `"files":[{"size":-1}]}`, "files[0].size: must not be negative, is -1"},
		{head + `"files":[{"size":1.5}]}`, `files[0].size: must be an integer, is "1.5"`},
		{head + `"files":[{},{"sha1":[]}]}`, "files[1].sha1: must be a string, is an array"},
		{head + `"files":[{"size":99999999999999999999}]}`, "files[0].size: must be an integer"},
		{head + `"icon":[]}`, "icon: must be an object, is an array"},
		{head + `"icon":{"size":"x"}}`, `icon.size: must be an integer, is "x"`},
		{head + `"public":1}`, "public: must be true or false, is a number"},
		{head + `"tags":5}`, "tags: must be an object, is a number"},
		{head + `"tags":[5]}`, "tags: must be an array of strings, is an array"},
		{head + `"channels":"dev"}`, "channels: must be an array of strings, is a string"},
		{head + `"acl":[1]}`, "acl: must be an array of strings, is an array"},
		{head + `"name":"` + "\x00" + `"}`, "NUL byte at offset"},
		{head + `"name":"` + "\xff" + `"}`, "not valid UTF-8"},
		{head + `"name":"` + "a\nb" + `"}`, "invalid character '\\n'"},
		{head + `"x":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + `}`, "nested deeper than 1000 levels"},
		{`[]`, "must be a JSON object, is a JSON array"},
		{`null`, "must be a JSON object, is null"},
		{"\ufeff" + raw(uuidA), "not JSON: line 1 column 1"},
		{raw(uuidA) + "}", "not JSON"},
		{raw(uuidA) + raw(uuidB), "not JSON"},
		{raw(uuidA) + strings.Repeat(" ", MaxManifest), "more than the 4194304 a manifest may have"},
	} {
		m, err := ParseManifest([]byte(tt.text))
		if m != nil || err == nil || !strings.HasPrefix(err.Error(), "manifest: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.80q\n got %v\nwant %s", tt.text, err, tt.want)
		}
		if err != nil && len(err.Error()) > 250 {
			t.Errorf("error of %d bytes repeats hostile input", len(err.Error()))
		}
	}
}

// The server truncates a manifest and writes it again; a reader meets every
// prefix.
func TestEveryPrefixOfAManifestIsTorn(t *testing.T) {
	whole := raw(uuidA)
	for n := range len(whole) {
		if m, err := ParseManifest([]byte(whole[:n])); m != nil || !errors.Is(err, ErrTorn) {
			t.Fatalf("prefix of %d bytes: %v, %v", n, m, err)
		}
	}
	if _, err := ParseManifest([]byte(whole[:11] + "garbage")); err == nil || errors.Is(err, ErrTorn) {
		t.Errorf("damage in the middle is not a torn write: %v", err)
	}
}

func TestRejectionsAreThoseOfTheServer(t *testing.T) {
	public := &Config{Mode: ModePublic}
	for _, tt := range []struct {
		name     string
		from, to string // replacement in a manifest that the server serves
		config   *Config
		want     string
	}{
		{"as it is", "", "", public, ""},
		{"version with a plus", `"16.2.0"`, `"16.2.0+1"`, public, ""},
		{"unknown os", `"os": "smartos"`, `"os": "beos"`, public, `os: must be one of smartos, linux, windows, bsd, illumos, other, is "beos"`},
		{"unknown type", `"zone-dataset"`, `"ramdisk"`, public, `type: must be one of zone-dataset, lx-dataset, zvol, docker, lxd, other, is "ramdisk"`},
		{"zvol without drivers", `"zone-dataset"`, `"zvol"`, public, "type: a zvol needs nic_driver, disk_driver and image_size"},
		{"zvol with drivers", `"zone-dataset"`, `"zvol","nic_driver":"virtio","disk_driver":"virtio","image_size":1024`, public, ""},
		{"no owner", `"owner": "00000000-0000-0000-0000-000000000000",`, "", public, "owner: missing"},
		{"bad owner", `"00000000-0000-0000-0000-000000000000"`, `"root"`, public, `owner: not a UUID: "root"`},
		{"name with a newline", `"base-64"`, `"base\n64"`, public, `name: "base\n64" is not 1 to 512 letters, digits, space . _ / -`},
		{"version with a space", `"16.2.0"`, `"16 2"`, public, `version: "16 2" is not 1 to 128 letters, digits, . _ / + -`},
		{"activated but never published", `"published_at": "2016-07-28T19:03:19.219Z",`, "", public, "published_at: missing, although the image is activated"},
		{"published at a strange time", `19.219Z`, `19.2Z`, public, `published_at: "2016-07-28T19:03:19.2Z" is not a time like 2016-09-07T12:00:00.000Z`},
		{"two files", `"dataset_guid": "123"
    }`, `"dataset_guid": "123"}, {}`, public, "files: has 2 entries, more than one"},
		{"unknown compression", `"gzip"`, `"zstd"`, public, `files: compression must be gzip, bzip2, xz or none, is "zstd"`},
		{"empty sha1", `"046c168df2244d3a13985f042a50e479fe56455e"`, `""`, public, "files: needs sha1 and size"},
		{"icon without type", `"contentType": "image/png",`, "", public, "icon: needs contentMD5, size and contentType"},
		{"bad state", `"state": "active"`, `"state": "gone"`, public, `state: must be one of active, unactivated, disabled, failed, creating, is "gone"`},
		{"bad acl", `"a1b2c3d4-0000-4000-8000-00000000000a"`, `"bob"`, public, `acl: holds "bob", which is not a UUID`},
		{"private image on a public server", `"public": true`, `"public": false`, public, "public: a server of mode public serves no private image"},
		{"public image on a private server", "", "", &Config{Mode: ModePrivate}, "public: a server of mode private serves no public image"},
		{"channels turned on", "", "", &Config{Mode: ModePublic, Channels: []Channel{{Name: "dev"}}}, "channels: missing, but the server has channels"},
		{"channels turned off", `"v": 2`, `"v": 2, "channels": ["dev"]`, public, "channels: given, but the server has no channels"},
		{"placeholder with null os and type", `"state": "active"`, `"state": "failed"`, public, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(raw(uuidA), tt.from, tt.to, 1)
			if tt.from != tt.to && text == raw(uuidA) {
				t.Fatal("nothing was replaced")
			}
			m, err := ParseManifest([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if errs := m.Rejections(tt.config); errs != nil {
				got = errs.Error()
			}
			if got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(raw(uuidA)))
	f.Add([]byte(`{"uuid":"` + uuidA + `","acl":"x","tags":["a"],"icon":"true","files":[{"size":"1"}]}`))
	f.Add([]byte(`{"uuid":"` + uuidA + `","image_size":1e400,"v":[]}`))
	public := &Config{Mode: ModePublic}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if (m == nil) == (err == nil) {
			t.Fatalf("manifest %v, error %v", m, err)
		}
		if err != nil {
			return
		}
		if !ValidUUID(m.UUID) {
			t.Errorf("uuid %q", m.UUID)
		}
		for _, file := range m.Files {
			if file.Size < 0 {
				t.Errorf("size %d", file.Size)
			}
		}
		_ = fmt.Sprint(m.Rejections(public), m.State(), m)
	})
}

func BenchmarkParseManifest(b *testing.B) {
	text := []byte(raw(uuidA))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := ParseManifest(text); err != nil {
			b.Fatal(err)
		}
	}
}
