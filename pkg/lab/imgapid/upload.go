package imgapid

import (
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Limits of the upstream server, in bytes.
const (
	maxFile = 20 << 30
	maxIcon = 128 << 10
)

// An upload is a file on its way in: named after the request until it is
// accepted. A refused or aborted one stays under that name for ever.
type upload struct {
	name      string // final name
	temporary string // "" when it went to its final name at once
	stor      string
	size      int64
	sha1, md5 string
}

func (c *call) addFile() error {
	raw, err := c.load()
	if err == nil {
		err = c.checkOwner(raw)
	}
	if err != nil {
		return err
	}
	if c.q.has("source") {
		return errCode("NotAvailable", "this is a lab: it does not fetch from other servers")
	}
	if isTrue(raw, "activated") {
		return errCode("ImageFilesImmutable", "cannot modify files on activated image %s", c.uuid)
	}
	compression := c.q.get("compression")
	if compression == "" {
		return errField("InvalidParameter", "compression", "Missing", `missing "compression"`)
	}
	if !slices.Contains(validCompressions, compression) {
		return errField("InvalidParameter", "compression", "Invalid", "invalid compression \"%s\" (must be one of %s)",
			compression, strings.Join(validCompressions, ", "))
	}
	u, err := c.receive(raw, "file0", maxFile, "image file", "Download")
	if err != nil {
		return err
	}
	f := c.describe(u)
	f.set("compression", compression)
	if g := c.q.get("dataset_guid"); g != "" {
		f.set("dataset_guid", g)
	}
	return c.accept(u, func(raw *object) error {
		if isTrue(raw, "activated") {
			return errCode("ImageAlreadyActivated", "image \"%s\" is already activated", c.uuid)
		}
		files, _ := raw.get("files").([]any)
		if len(files) == 0 {
			files = []any{nil}
		}
		files = slices.Clone(files)
		files[0] = f
		raw.set("files", files)
		return nil
	})
}

func (c *call) addIcon() error {
	raw, err := c.load()
	if err == nil {
		err = c.checkOwner(raw)
	}
	if err != nil {
		return err
	}
	ctype := c.r.Header.Get("Content-Type")
	if valid := []string{"image/jpeg", "image/gif", "image/png"}; !slices.Contains(valid, ctype) {
		if ctype == "" {
			ctype = "undefined"
		}
		return errCode("Upload", "invalid content-type, %s, must be one of %s", ctype, strings.Join(valid, ", "))
	}
	u, err := c.receive(raw, "icon", maxIcon, "icon", "Upload")
	if err != nil {
		return err
	}
	d := c.describe(u)
	icon := newObject()
	for _, k := range d.keys {
		icon.set(k, d.get(k))
		if k == "size" {
			icon.set("contentType", ctype)
		}
	}
	return c.accept(u, func(raw *object) error {
		raw.set("icon", icon)
		return nil
	})
}

// receive stores the body and checks it. On disk it gets a temporary name; in
// Manta it is at its final name before it is checked, and stays there.
func (c *call) receive(raw *object, name string, limit int64, what, code string) (upload, error) {
	if s := c.q.get("storage"); s != "" {
		if c.q.get("account") != "" {
			e := errCode("InvalidParameter", "invalid storage \"%s\"", s)
			e.fields = []fieldError{{"storage", "NotAllowed", "Parameter cannot be specified by non-operators"}}
			return upload{}, e
		}
		if !slices.Contains(validStorages, s) {
			return upload{}, errField("InvalidParameter", "storage", "Invalid", "invalid storage \"%s\" (must be one of %s)", s, strings.Join(validStorages, ", "))
		}
	}
	human := strconv.FormatInt(limit>>30, 10) + " GiB"
	if limit < 1<<30 {
		human = strconv.FormatInt(limit>>10, 10) + " KiB"
	}
	if c.r.ContentLength > limit {
		return upload{}, errCode("Upload", "%s size %d (from Content-Length) exceeds the maximum allowed size, %s", what, c.r.ContentLength, human)
	}
	if !uuidRE.MatchString(strings.ToLower(c.reqID)) {
		return upload{}, crashf("AssertionError: opts.reqId (uuid) is required")
	}
	u := upload{name: name, stor: c.chooseStor(raw)}
	sum1, sum5 := sha1.New(), md5.New()
	counted := &counter{r: io.TeeReader(c.r.Body, io.MultiWriter(sum1, sum5))}
	var err error
	if u.stor == "manta" {
		err = c.putUpload(name, io.LimitReader(counted, limit+1))
	} else {
		u.temporary = name + "." + c.reqID
		err = c.disk.storeUpload(c.uuid, u.temporary, io.LimitReader(counted, limit+1))
	}
	if err != nil {
		var aborted *abortedError
		switch {
		case errors.As(err, &aborted), errors.Is(err, errDead):
			return u, err
		case errors.Is(err, syscall.ENOSPC):
			return u, crashf("Error: ENOSPC: no space left on device, write")
		}
		return u, errStorage(err, "error receiving "+what)
	}
	u.size = counted.n
	u.sha1 = hex.EncodeToString(sum1.Sum(nil))
	u.md5 = base64.StdEncoding.EncodeToString(sum5.Sum(nil))
	return u, c.judge(u, limit, human, what, code)
}

func (c *call) judge(u upload, limit int64, human, what, code string) error {
	switch want := c.q.get("sha1"); {
	case u.size == 0 && u.name != "icon":
		return errCode(code, "image file size is 0 bytes, empty files are not allowed")
	case u.size > limit:
		return errCode("Upload", "%s size exceeds the maximum allowed size, %s", what, human)
	case c.r.ContentLength > 0 && u.size != c.r.ContentLength:
		return errCode(code, "\"Content-Length\" header, %d, does not match uploaded size, %d", c.r.ContentLength, u.size)
	case want != "" && want != u.sha1:
		kind := "file"
		if u.name == "icon" {
			kind = "icon file"
		}
		return errCode(code, "\"sha1\" hash, %s, does not match the uploaded %s sha1 hash, %s", want, kind, u.sha1)
	}
	return nil
}

func (c *call) describe(u upload) *object {
	o := newObject()
	o.set("sha1", u.sha1)
	o.set("size", intNumber(u.size))
	o.set("contentMD5", u.md5)
	o.set("mtime", isoDate(c.p.cfg.Now()))
	o.set("stor", u.stor)
	return o
}

// accept moves an upload to its final name and enters it in the manifest.
func (c *call) accept(u upload, change func(raw *object) error) error {
	raw, err := c.load() // the image may have changed during a long upload
	if err != nil {
		return err
	}
	if err := change(raw); err != nil {
		return err
	}
	c.p.uploads.Lock()
	defer c.p.uploads.Unlock()
	if u.temporary != "" {
		if err := c.disk.moveUpload(c.uuid, u.temporary, u.name); err != nil {
			return err
		}
	}
	return c.modify(change)
}

func (c *call) deleteIcon() error {
	raw, err := c.load()
	if err == nil {
		err = c.checkOwner(raw)
	}
	if err != nil {
		return err
	}
	icon, ok := raw.get("icon").(*object)
	if !ok {
		return crashf("TypeError: Cannot read property 'stor' of undefined")
	}
	if err := c.deleteStored(icon, "icon"); err != nil {
		return errStorage(err, "error deleting image icon")
	}
	return c.modify(func(raw *object) error {
		raw.del("icon")
		return nil
	})
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}
