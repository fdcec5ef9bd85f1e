package instance

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tritonops/tritonops/pkg/fail"
)

// standalone is what the template of a standalone instance renders.
const standalone = `{
    "mode": "private",
    "serverName": "images",

    "manta": {
        "url": "https://us-central.manta.mnx.io",
        "user": "joyops",
        "key": "/data/imgapi/etc/imgapi-i0-ef4a1442-20160907T000000.id_ecdsa",
        "keyId": "SHA256:abc",
        "insecure": true,
        "baseDir": "images.example.com"
    },

    "channels": [
        {"name": "experimental", "description": "feature builds"},
        {"name": "dev", "description": "main", "default": true}
    ],

    "authType": "signature",
    "databaseType": "local",
    "storageTypes": [
        "manta",
        "local"
    ]
}`

func TestConfigOfTheStandaloneTemplateIsReadUnchanged(t *testing.T) {
	c, err := ParseConfig([]byte(standalone))
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Port: 8080, Address: "127.0.0.1", ServerName: "images", LogLevel: "debug", MaxSockets: 100,
		Mode: "private", AuthType: "signature", DatabaseType: "local",
		StorageTypes: []string{"manta", "local"},
		Channels: []Channel{
			{Name: "experimental", Description: "feature builds"},
			{Name: "dev", Description: "main", Default: true},
		},
		Manta: &Manta{
			URL: "https://us-central.manta.mnx.io", User: "joyops", KeyID: "SHA256:abc",
			Key:     "/data/imgapi/etc/imgapi-i0-ef4a1442-20160907T000000.id_ecdsa",
			BaseDir: "images.example.com", RootDir: "/joyops/stor/images.example.com", Insecure: true,
		},
		Raw: c.Raw,
	}
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
	if got, _ := Lookup(c.Raw, "manta.rootDir"); got != "/joyops/stor/images.example.com" {
		t.Errorf("computed rootDir in the raw form: %v", got)
	}
}

func TestDefaultsAreOverlaidKeyByKeyAtTheTopOnly(t *testing.T) {
	for _, tt := range []struct{ name, config, key, want string }{
		{"empty config", `{}`, "port", "8080"},
		{"empty config has public mode", `{}`, "mode", "public"},
		{"a key replaces the default", `{"port": 9}`, "port", "9"},
		{"unknown keys stay", `{"extra": {"x": 1}}`, "extra.x", "1"},
		{"manta without baseDir", `{"manta":{"url":"u","user":"bob","key":"k","keyId":"i"}}`, "manta.rootDir", "/bob/stor/imgapi"},
		{"dc mode adds the data center", `{"mode":"dc","datacenterName":"east","manta":{"url":"u","user":"bob","key":"k","keyId":"i"}}`, "manta.rootDir", "/bob/stor/imgapi/east"},
		{"arrays are replaced whole", `{"minImageCreationPlatform": ["8"]}`, "minImageCreationPlatform.0", "8"},
		{"of a repeated key the last counts", `{"port": 1, "port": 2}`, "port", "2"},
		{"key names are exact", `{"PORT": 1}`, "port", "8080"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseConfig([]byte(tt.config))
			if err != nil {
				t.Fatal(err)
			}
			got, err := Lookup(c.Raw, tt.key)
			if err != nil {
				t.Fatal(err)
			}
			if s, _ := json.Marshal(got); strings.Trim(string(s), `"`) != tt.want {
				t.Errorf("%s = %s, want %s", tt.key, s, tt.want)
			}
		})
	}
}

func TestConfigErrorsNameTheKey(t *testing.T) {
	manta := `"manta":{"url":"u","user":"bob","key":"k","keyId":"i"`
	for _, tt := range []struct{ config, want string }{
		{`{"port": "8080x"}`, "port: must be an integer from 0 to 65535, is a string"},
		{`{"port": 70000}`, "port: must be an integer from 0 to 65535, is 70000"},
		{`{"port": null}`, "port: must be an integer from 0 to 65535, is missing"},
		{`{"address": 5}`, "address: must be a string, is a number"},
		{`{"serverName": {}}`, "serverName: must be a string, is an object"},
		{`{"mode": "open"}`, `mode: must be one of public, private, dc, is "open"`},
		{`{"mode": "dc"}`, "datacenterName: must be a string, is missing"},
		{`{"authType": "basic"}`, `authType: must be one of none, signature, is "basic"`},
		{`{"storageTypes": "local"}`, "storageTypes: must be an array of strings, is a string"},
		{`{"storageTypes": [1]}`, "storageTypes[0]: must be a string, is a number"},
		{`{"storageTypes": ["s3"]}`, `storageTypes: must hold local or manta, holds "s3"`},
		{`{"storageTypes": ["manta"]}`, "manta: must be an object when storageTypes holds manta"},
		{`{"manta": "x"}`, "manta: must be an object, is a string"},
		{`{"manta": {"url":"","user":"","key":""}}`, "manta.keyId: must be a string, is missing"},
		{`{` + manta + `,"baseDir": 5}}`, "manta.baseDir: must be a string, is a number"},
		{`{` + manta + `,"insecure": 1}}`, "manta.insecure: must be true or false, is a number"},
		{`{"databaseType": "moray2"}`, `databaseType: must be one of local, moray, is "moray2"`},
		{`{"placeholderImageLifespanDays": "7"}`, "placeholderImageLifespanDays: must be a number, is a string"},
		{`{"allowLocalCreateImageFromVm": "no"}`, "allowLocalCreateImageFromVm: must be true or false, is a string"},
		{`{"imgapiUrlFromDatacenter": {"east": 1}}`, "imgapiUrlFromDatacenter.east: must be a string, is a number"},
		{`{"channels": []}`, "channels: must be an array of at least one channel, is an empty array"},
		{`{"channels": ["dev"]}`, "channels[0]: must be an object, is a string"},
		{`{"channels": [{"name": "Dev", "description": ""}]}`, `channels[0].name: must match ^[a-z][a-z0-9_-]*$, is "Dev"`},
		{`{"channels": [{"name":"a","description":"","default":true},{"name":"b","description":"","default":false}]}`, "channels: only one may be the default"},
		{`{"authKeys": {"bob": "ssh-rsa"}}`, "authKeys.bob: must be an array of strings, is a string"},
		{`{"port": "x", "mode": 1}`, "port: must be an integer from 0 to 65535, is a string; mode: must be a string, is a number"},
		{`[]`, "must be a JSON object, is an array"},
		{``, "not JSON: empty"},
		{"{\n  \"mode\": public\n}", "not JSON: line 2 column 11: invalid character 'p' looking for beginning of value"},
		{`{"mode": "public"`, "not JSON: ends in the middle"},
		{`{} {}`, "not JSON: more than one JSON value"},
		{strings.Repeat(" ", MaxConfig) + "{}", "over 1048576 bytes, which no configuration is"},
	} {
		_, err := ParseConfig([]byte(tt.config))
		if err == nil || err.Error() != tt.want {
			t.Errorf("%.60s\n got %v\nwant %v", tt.config, err, tt.want)
		}
	}
}

func TestLoadRefusesADataCentersInstance(t *testing.T) {
	root := t.TempDir()
	put(t, root, "data/imgapi/etc/imgapi.config.json", `{"mode":"dc","datacenterName":"east"}`)
	_, err := Load(root, "")
	if fail.CodeOf(err) != fail.Refused || len(fail.Hints(err)) == 0 {
		t.Errorf("err = %v (code %d, hints %q)", err, fail.CodeOf(err), fail.Hints(err))
	}
}

func TestLoadSaysWhereItLooked(t *testing.T) {
	root := t.TempDir()
	_, err := Load(root, "")
	if fail.CodeOf(err) != fail.Refused || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), root+"/data/imgapi/etc/imgapi.config.json") {
		t.Errorf("absent: %v (code %d)", err, fail.CodeOf(err))
	}
	p := put(t, root, "big.json", strings.Repeat(" ", MaxConfig+1))
	if _, err = Load(root, p); err == nil || !strings.Contains(err.Error(), "over 1048576 bytes") {
		t.Errorf("large: %v", err)
	}
	if _, err = Load(root, root); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("directory: %v", err)
	}
	p = put(t, root, "bad.json", `{"port": []}`)
	if _, err = Load(root, p); err == nil || !strings.HasPrefix(err.Error(), p+": port: ") {
		t.Errorf("wrong type: %v", err)
	}
}

func TestEveryPathIsBelowTheRoot(t *testing.T) {
	i := newInstance(t, standalone)
	r := i.Root
	for _, tt := range []struct{ got, want string }{
		{i.DataDir(), "/data/imgapi"},
		{i.ManifestsDir(), "/data/imgapi/manifests"},
		{i.ImagesDir(), "/data/imgapi/images"},
		{i.ArchiveDir(), "/data/imgapi/archive"},
		{i.EtcDir(), "/data/imgapi/etc"},
		{i.RunDir(), "/data/imgapi/run"},
		{i.AuthKeysDir(), "/data/imgapi/etc/authkeys/local"},
		{i.CertPath(), "/data/imgapi/etc/cert.pem"},
		{i.StateDir(), "/data/tritonops"},
		{i.CacheDir(), "/data/tritonops/cache"},
		{i.LogDir(), "/var/log/triton"},
		{i.RestoredMarker(), "/data/imgapi/run/restored.marker"},
		{i.BackupStatus(), "/data/imgapi/run/backup.status"},
		{i.LogUploadStatus(), "/data/imgapi/run/logupload.status"},
		{i.ManifestPath(uuidA), "/data/imgapi/manifests/" + uuidA + ".raw"},
		{i.FilePath(uuidA, "file0"), "/data/imgapi/images/a1b/" + uuidA + "/file0"},
		{i.KeyPath(), "/data/imgapi/etc/imgapi-i0-ef4a1442-20160907T000000.id_ecdsa"},
		{i.Local("/x/../y"), "/y"},
		{i.Local("../../etc/passwd"), "/etc/passwd"},
	} {
		if tt.got != r+tt.want {
			t.Errorf("got %s, want <root>%s", tt.got, tt.want)
		}
	}
	if got := i.Local(r + "/data/key"); got != r+"/data/key" {
		t.Errorf("a path below the root was prefixed again: %s", got)
	}
	if got := (&Instance{Root: "/"}).Local("/data/key"); got != "/data/key" {
		t.Errorf("root /: %s", got)
	}
	if i.RelFile(uuidA, "icon") != "images/a1b/"+uuidA+"/icon" {
		t.Error(i.RelFile(uuidA, "icon"))
	}
}

func TestRedactHidesSecretsAndNothingElse(t *testing.T) {
	in, err := decodeObject([]byte(`{
		"ufds": {"url": "ldap://x", "bindDN": "cn=root", "bindPassword": "hunter2"},
		"manta": {"key": "/data/k", "keyId": "SHA256:x", "url": "https://bob:hunter2@host/x"},
		"list": [{"api_token": "hunter2", "client-secret": ["hunter2"]}, "plain"],
		"privKey": "hunter2", "keyPassphrase": "hunter2", "emptyPassword": "",
		"pem": "-----BEGIN RSA PRIVATE KEY-----\nhunter2", "ok": "https://host/path@2", "port": 80
	}`))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(Redact(in))
	if strings.Contains(string(b), "hunter2") {
		t.Errorf("a secret came through: %s", b)
	}
	for _, keep := range []string{`"/data/k"`, `"SHA256:x"`, `"ldap://x"`, `"plain"`, `"https://host/path@2"`, `:80`, `"emptyPassword":""`, "bob"} {
		if !strings.Contains(string(b), keep) {
			t.Errorf("%s went missing: %s", keep, b)
		}
	}
	if v, _ := Lookup(in, "ufds.bindPassword"); v != "hunter2" {
		t.Error("the original was changed")
	}
}

func TestLookupFindsDottedKeysAndNamesWhatIsThere(t *testing.T) {
	in, err := decodeObject([]byte(`{"a": {"b.c": 1, "b": {"c": 2, "d": [3, {"e": 4}]}}, "s": "x"}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a.b.c": "1", "a.b.d.0": "3", "a.b.d.1.e": "4", "s": `"x"`} {
		v, err := Lookup(in, name)
		if b, _ := json.Marshal(v); err != nil || string(b) != want {
			t.Errorf("%s = %s, %v", name, b, err)
		}
	}
	for name, hint := range map[string]string{
		"z":       "the configuration has: a, s",
		"a.z":     "a has: b, b.c",
		"a.b.d.2": "a.b.d is an array of 2, counted from 0",
		"a.b.d.x": "a.b.d is an array of 2, counted from 0",
		"s.x":     "s is a string",
		"a.b.c.z": "a.b.c is a number",
	} {
		_, err := Lookup(in, name)
		if fail.CodeOf(err) != fail.Failed || len(fail.Hints(err)) != 1 || fail.Hints(err)[0] != hint {
			t.Errorf("%s: %v, hints %q", name, err, fail.Hints(err))
		}
	}
	if d := cmp.Diff([]string{"a", "a.b", "a.b.c", "a.b.d", "a.b.c", "s"}, Keys(in)); d != "" {
		t.Error(d)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(standalone))
	f.Add([]byte(`{"manta":{"url":"u","user":"","key":"k","keyId":"i","baseDir":0}}`))
	f.Add([]byte(`{"channels":[{"name":"a","description":"","default":1}],"authKeys":{"x":[1]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v, error %v", c, err)
		}
		if err != nil {
			return
		}
		if c.Manta != nil && !strings.HasPrefix(c.Manta.RootDir, "/"+c.Manta.User+"/stor/") {
			t.Errorf("rootDir %q", c.Manta.RootDir)
		}
		if len(b) < 4096 && !bytes.Contains(b, []byte(`""`)) { // an empty key cannot be named
			for _, k := range Keys(c.Raw) {
				if _, err := Lookup(c.Raw, k); err != nil {
					t.Errorf("listed key %q is not found: %v", k, err)
				}
			}
		}
		if _, err := json.Marshal(Redact(c.Raw)); err != nil {
			t.Error(err)
		}
	})
}
