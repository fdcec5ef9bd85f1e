package imgapid

import (
	"crypto/sha1"
	"encoding/hex"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// load finds the image of the request, as far as the channel and the account
// may see it, and returns a copy of its internal form.
func (c *call) load() (*object, error) {
	account := c.q.get("account")
	if account != "" && !uuidRE.MatchString(account) {
		return nil, errField("InvalidParameter", "account", "Invalid", "invalid \"account\": not a UUID: \"%s\"", account)
	}
	var raw *object
	if !c.p.db.get(c.uuid, func(o *object) { raw = deepCopy(o).(*object) }) {
		return nil, errNotFound(c.uuid)
	}
	if c.channel != nil && !slices.Contains(stringList(raw.get("channels")), c.channel.Name) {
		return nil, errCode("ResourceNotFound", "image not found")
	}
	if account != "" && !visible(raw, account) {
		return nil, errCode("ResourceNotFound", "image not found")
	}
	v := c.view()
	v.admin = false
	c.etag = etagOf(v.public(raw))
	return raw, nil
}

// deepCopy makes a copy that shares nothing with what other requests change.
func deepCopy(v any) any {
	switch v := v.(type) {
	case *object:
		o := newObject()
		for _, k := range v.keys {
			o.set(k, deepCopy(v.get(k)))
		}
		return o
	case []any:
		a := make([]any, len(v))
		for i := range v {
			a[i] = deepCopy(v[i])
		}
		return a
	}
	return v
}

func visible(raw *object, account string) bool {
	switch {
	case raw.str("owner") == account:
		return true
	case !isTrue(raw, "activated"):
		return false
	case isTrue(raw, "public"):
		return true
	}
	return slices.Contains(stringList(raw.get("acl")), account)
}

func etagOf(public *object) string {
	sum := sha1.Sum(compact(public))
	return hex.EncodeToString(sum[:])
}

func (c *call) getImage() error {
	raw, err := c.load()
	if err != nil {
		return err
	}
	if err := c.adminFields(); err != nil {
		return err
	}
	if done, err := c.conditions(time.Time{}); done || err != nil {
		return err
	}
	c.sendImage(c.view().public(raw))
	return nil
}

func (c *call) sendImage(public *object) {
	c.w.Header()["Etag"] = []string{etagOf(public)}
	c.send(http.StatusOK, public)
}

var quotedRE = regexp.MustCompile(`^"\w*"$`)

// etagListed says whether a condition names the etag. Quotes around it do not
// matter.
func etagListed(condition, etag string) bool {
	for _, t := range strings.Split(condition, ",") {
		t = strings.TrimSpace(t)
		if quotedRE.MatchString(t) {
			t = strings.Trim(t, `"`)
		}
		if t == "*" || t == etag {
			return true
		}
	}
	return false
}

// conditions answers a conditional request. The etag compared is always the
// manifest's, for files too. done says that the answer is out.
func (c *call) conditions(modified time.Time) (done bool, err error) {
	h := c.r.Header
	read := c.r.Method == http.MethodGet
	if v := h.Get("If-Match"); v != "" && !etagListed(v, c.etag) {
		return false, c.failed("if-match '%s' didn't match etag '%s'", v, c.etag)
	}
	if v := h.Get("If-None-Match"); v != "" && etagListed(v, c.etag) {
		if read {
			c.sendEmpty(http.StatusNotModified)
			return true, nil
		}
		return false, c.failed("if-none-match '%s' matched etag '%s'", v, c.etag)
	}
	if modified.IsZero() {
		return false, nil
	}
	modified = modified.Truncate(time.Second)
	if t, ok := parseDate(h.Get("If-Modified-Since")); ok && read && !modified.After(t) {
		c.w.Header().Del("Content-Length")
		c.sendEmpty(http.StatusNotModified)
		return true, nil
	}
	if v := h.Get("If-Unmodified-Since"); v != "" {
		if t, ok := parseDate(v); ok && modified.After(t) {
			c.plainPrecondition("object was modified at '" + modified.Format(http.TimeFormat) + "'; if-unmodified-since '" + v + "'")
			return true, nil
		}
	}
	return false, nil
}

func (c *call) failed(format string, args ...any) error {
	return errCode("PreconditionFailed", format, args...)
}

// plainPrecondition is the 412 of a file: its content type is already set, so
// the body is plain text under a binary type.
func (c *call) plainPrecondition(text string) {
	c.stamp()
	c.w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	c.w.WriteHeader(http.StatusPreconditionFailed)
	_, _ = io.WriteString(c.w, text) // the client is gone then
}

func (c *call) getFile() error {
	raw, err := c.load()
	if err != nil {
		return err
	}
	files := filesOf(raw)
	if len(files) == 0 {
		return errCode("ResourceNotFound", "image \"%s\" has no file", c.uuid)
	}
	index := leadingInt(c.q.get("index"))
	if index < 0 || index >= len(files) {
		return errCode("ResourceNotFound", "image \"%s\" has no file at index %d", c.uuid, index)
	}
	f := files[index]
	return c.sendFile(fileName(index), f, "application/octet-stream")
}

// foreignStor is a file in a storage this server is not configured for: it dies
// of it.
func (c *call) foreignStor(f *object) error {
	if !f.has("stor") {
		return crashf("AssertionError: type (string) is required")
	}
	return crashf("TypeError: Cannot read property 'createImageFileReadStream' of undefined (stor %q)", f.str("stor"))
}

// leadingInt is parseInt(s, 10) || 0.
func leadingInt(s string) int {
	s = strings.TrimLeft(s, " \t\n")
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || end == 0 && (s[end] == '-' || s[end] == '+')) {
		end++
	}
	n, err := strconv.Atoi(s[:end])
	if err != nil {
		return 0
	}
	return n
}

func (c *call) getIcon() error {
	raw, err := c.load()
	if err != nil {
		return err
	}
	icon, _ := raw.get("icon").(*object)
	if icon == nil {
		return errCode("ResourceNotFound", "image \"%s\" has no icon", c.uuid)
	}
	return c.sendFile("icon", icon, icon.str("contentType"))
}

// sendFile answers with a file from disk or from Manta under the headers the
// manifest gives: nothing compares the two.
func (c *call) sendFile(name string, f *object, ctype string) error {
	if !c.p.set.stores(f.str("stor")) {
		return c.foreignStor(f)
	}
	size, _ := number(f.get("size"))
	modified, _ := parseDate(f.str("mtime"))
	h := c.w.Header()
	h["Etag"] = []string{f.str("sha1")}
	h.Set("Last-Modified", modified.Format(http.TimeFormat))
	h.Set("Content-Length", strconv.FormatInt(int64(size), 10))
	h.Set("Content-Type", ctype)
	h["Content-MD5"] = []string{f.str("contentMD5")}
	if done, err := c.conditions(modified); done || err != nil {
		return err
	}
	c.stamp()
	file, err := c.openStored(f.str("stor"), name)
	if err != nil {
		c.p.log.put(50, "error getting image file: "+storageText(err), nil)
		c.w.WriteHeader(http.StatusInternalServerError)
		return c.hang()
	}
	defer file.Close()
	c.w.WriteHeader(http.StatusOK)
	n, err := io.Copy(c.w, io.LimitReader(file, int64(size)))
	if err != nil || n < int64(size) { // the client is gone, which ends it at once, or there is no more
		return c.hang()
	}
	return nil
}

// hang is a body that never comes: headers are out, then nothing, then the
// connection closes.
func (c *call) hang() error {
	_ = http.NewResponseController(c.w).Flush() // a client that is gone is noticed below
	select {
	case <-c.r.Context().Done():
	case <-c.p.dead:
	case <-time.After(c.p.cfg.Stall):
	}
	panic(http.ErrAbortHandler)
}
