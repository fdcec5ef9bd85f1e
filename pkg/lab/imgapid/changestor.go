package imgapid

import (
	"crypto/md5"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
)

// changeStor moves an image's file to the other storage. From Manta to local
// disk it loses the image, as upstream: the file stays under its temporary name,
// the manifest says local, and the copy in Manta is deleted.
func (c *call) changeStor(raw *object) error {
	stor := c.q.get("stor")
	switch {
	case c.q.get("account") != "":
		return errCode("OperatorOnly", "operator-only endpoint called by a non-operator")
	case stor == "":
		return errField("ValidationFailed", "stor", "MissingParameter", `missing "stor" query parameter`)
	case !c.p.set.stores(stor):
		return errField("ValidationFailed", "stor", "Invalid", "unknown storage type \"%s\"", stor)
	case truthy(raw.get("icon")):
		return errCode("NotImplemented", "cannot change stor for images with an icon")
	}
	files := filesOf(raw)
	switch {
	case len(files) > 1:
		return errCode("NotImplemented", "cannot change stor for images with multiple files")
	case len(files) == 0:
		return crashf("TypeError: Cannot read property 'stor' of undefined")
	case !c.p.set.stores(files[0].str("stor")):
		return c.foreignStor(files[0])
	}
	if files[0].str("stor") != stor {
		if err := c.moveTo(stor, files[0]); err != nil {
			return err
		}
		if err := c.enterStor(stor); err != nil {
			return err
		}
		if err := c.deleteStored(files[0], "file0"); err != nil {
			return err
		}
		files[0].set("stor", stor)
	}
	c.send(http.StatusOK, view{mode: c.p.set.Mode, channels: true, admin: true}.public(raw))
	return nil
}

// moveTo copies the file to the other storage. On disk it gets the temporary
// name of an upload, which upstream forgets to change.
func (c *call) moveTo(stor string, f *object) error {
	if !uuidRE.MatchString(strings.ToLower(c.reqID)) {
		return crashf("AssertionError: opts.reqId (uuid) is required")
	}
	from, err := c.openStored(f.str("stor"), "file0")
	if err != nil {
		return errStorage(err, "error moving image file")
	}
	defer from.Close()
	if stor == "manta" {
		err = c.p.manta.put(c.ctx, c.p.manta.file(c.uuid, "file0"), from, storedObject(f))
		if err != nil {
			return errStorage(err, "error moving image file")
		}
		return nil
	}
	return c.download(from, f)
}

func (c *call) download(from io.Reader, f *object) error {
	want := storedObject(f)
	sum := md5.New()
	counted := &counter{r: io.TeeReader(from, sum)}
	if err := c.disk.storeUpload(c.uuid, "file0."+c.reqID, counted); err != nil {
		return errStorage(err, "error moving image file")
	}
	got := base64.StdEncoding.EncodeToString(sum.Sum(nil))
	switch {
	case counted.n != want.Size:
		return errCode("InternalError", "error moving image file: DownloadError: error downloading image %s file: downloaded %d bytes, expected %d",
			c.uuid, counted.n, want.Size)
	case got != want.MD5:
		return errCode("InternalError", "error moving image file: DownloadError: error downloading image %s file: downloaded Content-MD5 is \"%s\", expected \"%s\"",
			c.uuid, got, want.MD5)
	}
	return nil
}

// enterStor notes the new storage in the manifest; the archive is not touched.
func (c *call) enterStor(stor string) error {
	c.p.writes.Lock()
	defer c.p.writes.Unlock()
	var raw *object
	found := c.p.db.get(c.uuid, func(o *object) {
		for _, f := range filesOf(o) {
			f.set("stor", stor)
		}
		raw = deepCopy(o).(*object)
	})
	if !found {
		return errNotFound(c.uuid)
	}
	if err := c.disk.writeManifest(raw); err != nil {
		return errCode("InternalError", "could not save updated manifest")
	}
	c.p.db.put(raw)
	return nil
}
