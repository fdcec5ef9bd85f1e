package backup

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/tritonops/tritonops/pkg/instance"
)

// Fault is one thing a run, a verify or a restore found wrong and went on
// without.
type Fault struct {
	Code string `json:"code"` // stable, snake_case
	Path string `json:"path,omitempty"`
	Text string `json:"text"`
	Fix  string `json:"fix,omitempty"`
}

const (
	readTries = 5
	readPause = 100 * time.Millisecond
)

// want is what a manifest says of one of its files on the local disk.
type want struct {
	path string
	size int64
	md5  []byte // 16 bytes, nil where the manifest has none
	sha1 string // hex
}

// wants returns the files that a manifest says lie on the local disk. Those with
// stor "manta" are not kept by a backup.
func wants(m *instance.Manifest) []want {
	var out []want
	add := func(name, stor, sum, sha1 string, size int64) {
		if stor != "" && stor != "local" {
			return
		}
		w := want{path: instance.RelFile(m.UUID, name), size: size, sha1: sha1}
		if b, err := base64.StdEncoding.DecodeString(sum); err == nil && len(b) == md5.Size {
			w.md5 = b
		}
		out = append(out, w)
	}
	for i, f := range m.Files {
		add(fmt.Sprintf("file%d", i), f.Stor, f.ContentMD5, f.SHA1, f.Size)
	}
	if m.Icon != nil {
		add("icon", m.Icon.Stor, m.Icon.ContentMD5, m.Icon.SHA1, m.Icon.Size)
	}
	return out
}

// readManifest reads a manifest that the server may be rewriting in place right
// now: only a copy that parses and did not change during the reading counts.
func readManifest(ctx context.Context, inst *instance.Instance, uuid string) (instance.ManifestFile, signature, error) {
	mf, err := inst.ReadManifestSettled(ctx, uuid, readTries, readPause)
	if err != nil {
		return mf, signature{}, err
	}
	sig := signatureOf(mf.Info)
	sig.Hashed = time.Now().UnixNano()
	return mf, sig, nil
}

// etcFiles returns the files of etc/ that are saved, by their path: local auth
// keys, and the configuration without secrets. Key files that cannot be saved are
// faults.
func etcFiles(inst *instance.Instance) (map[string][]byte, []Fault, error) {
	out := map[string][]byte{}
	var faults []Fault
	b, _, err := instance.ReadStable(inst.ConfigPath, maxInline)
	if err != nil {
		return nil, nil, err
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", inst.ConfigPath, err)
	}
	if b, err = json.MarshalIndent(instance.Redact(v), "", "    "); err != nil {
		return nil, nil, err
	}
	out["etc/imgapi.config.json"] = append(b, '\n')
	dir := filepath.Join(inst.EtcDir(), "authkeys", "local")
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	for _, d := range names {
		if !strings.HasSuffix(d.Name(), ".keys") || strings.HasPrefix(d.Name(), ".") {
			continue
		}
		p := path.Join("etc/authkeys/local", d.Name())
		if err := checkPath(p); err != nil {
			faults = append(faults, Fault{Code: "odd_name", Path: p, Text: err.Error()})
			continue
		}
		b, _, err := instance.ReadStable(filepath.Join(dir, d.Name()), maxInline)
		if err != nil {
			faults = append(faults, Fault{Code: "authkeys_unreadable", Path: p, Text: err.Error()})
			continue
		}
		out[p] = b
	}
	return out, faults, nil
}

func openImage(inst *instance.Instance, p string) (*os.File, os.FileInfo, error) {
	m := imagePath.FindStringSubmatch(p)
	if m == nil {
		return nil, nil, fmt.Errorf("%q: not an image file", p)
	}
	return inst.OpenImageFile(m[2], m[3])
}

// hashFile reads a large file once and returns its entry, unless it changed
// meanwhile.
func hashFile(ctx context.Context, inst *instance.Instance, p string, progress func(int64)) (Entry, signature, error) {
	f, before, err := openImage(inst, p)
	if err != nil {
		return Entry{}, signature{}, err
	}
	defer f.Close()
	h := md5.New()
	n, err := io.CopyBuffer(h, &progressReader{ReadCloser: ctxReader{ctx, f}, progress: progress}, make([]byte, 256<<10))
	if err != nil {
		return Entry{}, signature{}, err
	}
	hashed := time.Now().UnixNano()
	after, err := f.Stat()
	if err != nil {
		return Entry{}, signature{}, err
	}
	if !instance.SameVersion(before, after) || n != before.Size() {
		return Entry{}, signature{}, fmt.Errorf("%s: %w", p, instance.ErrChanging)
	}
	sig := signatureOf(before)
	sig.Hashed = hashed
	e := Entry{Path: p, Size: n}
	h.Sum(e.MD5[:0])
	return e, sig, nil
}

// ctxReader stops reading when its context ends.
type ctxReader struct {
	ctx context.Context
	io.ReadCloser
}

func (r ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.ReadCloser.Read(p)
}
