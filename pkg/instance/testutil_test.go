package instance

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

const (
	uuidA = "a1b2c3d4-0000-4000-8000-000000000001"
	uuidB = "b1b2c3d4-0000-4000-8000-000000000002"
	uuidC = "c1b2c3d4-0000-4000-8000-000000000003"
)

// put writes a file below root, making directories.
func put(t testing.TB, root, rel, content string) string {
	t.Helper()
	path := filepath.Join(root, rel)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// newInstance makes an instance with the given config in a new directory.
func newInstance(t testing.TB, config string) *Instance {
	t.Helper()
	root := t.TempDir()
	put(t, root, "data/imgapi/etc/imgapi.config.json", config)
	i, err := Load(root, "")
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// raw is a manifest in the form the stock server keeps on disk.
func raw(uuid string) string {
	return fmt.Sprintf(`{
  "v": 2,
  "uuid": %q,
  "owner": "00000000-0000-0000-0000-000000000000",
  "name": "base-64",
  "version": "16.2.0",
  "state": "active",
  "disabled": false,
  "public": true,
  "published_at": "2016-07-28T19:03:19.219Z",
  "type": "zone-dataset",
  "os": "smartos",
  "files": [
    {
      "sha1": "046c168df2244d3a13985f042a50e479fe56455e",
      "size": 4,
      "compression": "gzip",
      "contentMD5": "jH3ZIq1HSU/ALDiOEsAOrA==",
      "mtime": "2013-08-22T20:41:08.978Z",
      "stor": "local",
      "dataset_guid": "123"
    }
  ],
  "tags": ["role=os", "flag"],
  "tagsObj": {"role": "os", "flag": true, "docker:id": "sha256:00"},
  "icon": {"sha1": "1b8961b8a349ed987f73d3c5117e970e006b5b7e", "size": 4,
    "contentMD5": "uuxkYbDWnd4bhhrvvjddig==", "contentType": "image/png", "stor": "local"},
  "acl": ["a1b2c3d4-0000-4000-8000-00000000000a"],
  "origin": "b1b2c3d4-0000-4000-8000-000000000002",
  "activated": true,
  "unheard_of": {"a": [1, 2]}
}`, uuid)
}
