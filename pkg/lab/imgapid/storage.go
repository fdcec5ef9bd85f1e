package imgapid

import (
	"cmp"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tritonops/tritonops/pkg/lab/mantastor"
)

// mantaStore is this server's place in Manta.
type mantaStore struct {
	client *mantastor.Client
	root   string
}

func (m *mantaStore) file(uuid, name string) string {
	return path.Join(m.root, "images", uuid[:3], uuid, name)
}

func (m *mantaStore) archived(uuid string) string {
	return path.Join(m.root, "archive", uuid[:3], uuid+".json")
}

func (m *mantaStore) keys() string { return path.Join(m.root, "authkeys") }

// put stores an object in a directory that may have to be made.
func (m *mantaStore) put(ctx context.Context, p string, body io.Reader, o mantastor.Object) error {
	if err := m.client.MkdirAll(ctx, path.Dir(p)); err != nil {
		return err
	}
	return m.client.Put(ctx, p, body, o)
}

// remove deletes an object, and its directory once that is empty.
func (m *mantaStore) remove(ctx context.Context, p string) error {
	if err := m.client.Delete(ctx, p); err != nil {
		return err
	}
	left, err := m.client.List(ctx, path.Dir(p))
	if err != nil || len(left) > 0 {
		return err
	}
	return m.client.Delete(ctx, path.Dir(p))
}

// openManta makes the client, for files, for keys or for both. Manta itself is
// not asked anything yet.
func (p *Process) openManta() error {
	set := p.set.Manta
	if set == nil || !p.set.stores("manta") && p.set.AuthType != "signature" {
		return nil
	}
	key, err := mantastor.LoadKey(filepath.Join(p.cfg.Root, set.Key))
	if err != nil {
		return errors.New(nodeError(err))
	}
	client, err := mantastor.New(mantastor.Config{URL: set.URL, Account: set.User, Key: key, Insecure: set.Insecure, Patience: p.cfg.patience()})
	if err != nil {
		return err
	}
	p.manta = &mantaStore{client, set.root()}
	if p.set.AuthType == "signature" {
		p.watcher = newKeyWatcher(p)
	}
	return nil
}

// talkToManta starts what the server does there on its own.
func (p *Process) talkToManta() {
	if p.watcher != nil {
		go p.watcher.run(p.life)
	}
	if p.set.stores("manta") {
		go p.archiveLoop(p.life)
	}
}

// chooseStor is where a new file goes: Manta if there is one, unless the request
// names another. What is named and not there means local disk.
func (c *call) chooseStor(raw *object) string {
	set := &c.p.set
	stor := "local"
	switch {
	case !c.q.has("storage") && set.stores("manta"):
		stor = "manta"
	case set.stores(c.q.get("storage")):
		stor = c.q.get("storage")
	}
	if stor == "manta" && set.AdminUUID != "" && raw.str("owner") == set.AdminUUID && c.q.get("storage") != "manta" {
		return "local"
	}
	return stor
}

// putUpload sends a body on to Manta as it comes. A client that goes away in the
// middle leaves what was there before.
func (c *call) putUpload(name string, body io.Reader) error {
	watched := &watchedReader{r: body}
	err := c.p.manta.put(c.ctx, c.p.manta.file(c.uuid, name), watched, mantastor.Object{Size: -1})
	switch {
	case c.p.isDead():
		return errDead
	case watched.err != nil:
		return &abortedError{watched.err}
	}
	return err
}

// watchedReader remembers why reading ended, unless that is the end.
type watchedReader struct {
	r   io.Reader
	err error
}

func (w *watchedReader) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

// openStored opens a file of the image where it is.
func (c *call) openStored(stor, name string) (io.ReadCloser, error) {
	if stor == "manta" {
		return c.p.manta.client.Get(c.ctx, c.p.manta.file(c.uuid, name))
	}
	f, err := os.Open(c.p.at.file(c.uuid, name))
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && fi.IsDir() {
		err = errors.New("EISDIR: illegal operation on a directory, read")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// deleteStored deletes a file of the image where its entry says it is. In a
// storage that is not configured the server dies.
func (c *call) deleteStored(f *object, name string) error {
	switch stor := f.str("stor"); {
	case !c.p.set.stores(stor):
		return c.foreignStor(f)
	case stor == "manta":
		return c.p.manta.remove(c.ctx, c.p.manta.file(c.uuid, name))
	}
	return c.disk.deleteFile(c.uuid, name)
}

// moveStored gives the file of the image to another uuid.
func (c *call) moveStored(f *object, uuid string) error {
	switch stor := f.str("stor"); {
	case !c.p.set.stores(stor):
		return c.foreignStor(f)
	case stor == "manta":
		if err := c.copyObject(f, c.p.manta.file(uuid, "file0")); err != nil {
			return errStorage(err, "error moving image file")
		}
		return c.deleteStored(f, "file0")
	}
	to := c.p.at.file(uuid, "file0")
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.Rename(c.p.at.file(c.uuid, "file0"), to)
}

// copyObject copies the image's file within Manta, through this server.
func (c *call) copyObject(f *object, to string) error {
	from, err := c.openStored("manta", "file0")
	if err != nil {
		return err
	}
	defer from.Close()
	return c.p.manta.put(c.ctx, to, from, storedObject(f))
}

func storedObject(f *object) mantastor.Object {
	size, _ := number(f.get("size"))
	return mantastor.Object{Type: "application/octet-stream", Size: int64(size), MD5: f.str("contentMD5")}
}

// errStorage is what a failed storage looks like on the wire.
func errStorage(err error, what string) error {
	var died *crash
	var answered *mantastor.Error
	switch {
	case errors.As(err, &died), errors.Is(err, errDead):
		return err
	case errors.As(err, &answered) && answered.Code == "ServiceUnavailableError":
		return errCode("StorageIsDown", "storage is down at the moment")
	}
	return errCode("InternalError", "%s: %s", what, storageText(err))
}

// storageText words a failure of either storage as the upstream runtime does.
func storageText(err error) string {
	var answered *mantastor.Error
	var op *net.OpError
	switch {
	case errors.As(err, &answered):
		return strings.TrimSuffix(cmp.Or(answered.Code, fmt.Sprintf("Http%d", answered.Status)), "Error") + "Error: " + answered.Message
	case errors.As(err, &op) && errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("Error: connect ECONNREFUSED %s", op.Addr)
	case errors.As(err, &op):
		return "Error: " + op.Op + " " + op.Err.Error()
	}
	return "Error: " + nodeError(err)
}

// export copies an image's manifest and file to a place in Manta the operator
// names, with no guard on where that is.
func (c *call) export(raw *object) error {
	if !c.q.has("manta_path") {
		return errField("ValidationFailed", "manta_path", "MissingParameter", "missing 'manta_path' prefix parameter")
	}
	to := path.Clean(c.q.get("manta_path"))
	if parts := strings.Split(to, "/"); len(parts) < 2 || parts[1] == "" {
		return errField("InvalidParameter", "manta_path", "Invalid", "invalid manta_path prefix, not a valid manta path")
	}
	if !c.p.set.stores("manta") {
		return errCode("StorageUnsupported", "storage type is unsupported")
	}
	files := filesOf(raw)
	switch {
	case len(files) == 0:
		return crashf("AssertionError: image.files[0] (object) is required")
	case files[0].str("stor") != "manta":
		return errCode("StorageUnsupported", "storage type is unsupported")
	case c.q.get("account") != "":
		return crashf("TypeError: Cannot read property 'getUserEx' of undefined")
	}
	ext := map[string]string{"bzip2": ".bz2", "gzip": ".gz", "xz": ".xz"}[files[0].str("compression")]
	_, err := c.p.manta.client.List(c.ctx, to)
	switch {
	case err == nil: // a directory
		to = path.Join(to, raw.str("name")+"-"+raw.str("version"))
	case !mantastor.NotFound(err):
		return errDisk(errors.New(storageText(err)))
	}
	manifest := appendJSON(nil, c.view().public(raw), "\n", "    ")
	err = c.p.manta.client.Put(c.ctx, to+".imgmanifest", strings.NewReader(string(manifest)), mantastor.Object{Type: "application/json", Size: int64(len(manifest))})
	if err != nil {
		return errStorage(err, "error exporting image manifest")
	}
	if err := c.copyObject(files[0], to+".zfs"+ext); err != nil {
		return errStorage(err, "error exporting image file")
	}
	o := newObject()
	o.set("manta_url", c.p.set.Manta.URL)
	o.set("image_path", to+".zfs"+ext)
	o.set("manifest_path", to+".imgmanifest")
	c.send(http.StatusOK, o)
	return nil
}

// archiveLoop moves what is in the local archive to Manta, now and then.
func (p *Process) archiveLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(p.cfg.ArchiveEvery):
		}
		if err := p.moveArchive(ctx); err != nil && ctx.Err() == nil {
			p.log.put(50, "error archiving manifests to remote: "+storageText(err), nil)
		}
	}
}

func (p *Process) moveArchive(ctx context.Context) error {
	shards, err := os.ReadDir(p.at.archive())
	if err != nil {
		return err
	}
	for _, shard := range shards {
		if !shard.IsDir() {
			continue
		}
		dir := filepath.Join(p.at.archive(), shard.Name())
		files, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, f := range files {
			uuid, ok := strings.CutSuffix(f.Name(), ".json")
			if !ok || !uuidRE.MatchString(uuid) {
				p.log.put(40, fmt.Sprintf("%q file does not belong in archive", f.Name()), nil)
				continue
			}
			if err := p.moveArchived(ctx, uuid, filepath.Join(dir, f.Name())); err != nil {
				return err
			}
		}
		_ = os.Remove(dir) // only when it is empty
	}
	return nil
}

// moveArchived moves one file. A version written meanwhile is lost, as upstream.
func (p *Process) moveArchived(ctx context.Context, uuid, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !json.Valid(b) {
		p.log.put(40, fmt.Sprintf("could not parse %q in archive", file), nil)
		return nil
	}
	err = p.manta.put(ctx, p.manta.archived(uuid), strings.NewReader(string(b)),
		mantastor.Object{Type: "application/json", Size: int64(len(b)), MD5: md5Of(b)})
	if err != nil {
		return err
	}
	return os.Remove(file)
}

func md5Of(b []byte) string {
	sum := md5.Sum(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}
