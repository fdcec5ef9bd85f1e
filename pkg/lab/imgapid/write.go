package imgapid

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxBody bounds the JSON bodies the lab reads; upstream has no bound.
const maxBody = 64 << 20

// body reads the request's body: an *object or another JSON value, a form as an
// object, anything else as a string, nil when there is none.
func (c *call) body() (any, error) {
	b, err := io.ReadAll(io.LimitReader(c.r.Body, maxBody))
	if err != nil {
		return nil, &abortedError{err}
	}
	if len(b) == 0 {
		return nil, nil
	}
	ctype, _, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	switch ctype {
	case "application/json":
		v, err := parseJSON(b)
		if err != nil {
			return nil, errCode("InvalidContent", "Invalid JSON: %s", err)
		}
		return v, nil
	case "application/x-www-form-urlencoded":
		form, _ := url.ParseQuery(string(b)) // what cannot be decoded is left out
		o := newObject()
		for k, v := range form {
			o.set(k, v[0])
		}
		return o, nil
	}
	return string(b), nil
}

func (c *call) postImages() error {
	body, err := c.body()
	if err != nil {
		return err
	}
	switch action := c.q.get("action"); action {
	case "":
		if c.q.has("action") {
			return crashf("TypeError: Cannot read property 'serialize' of undefined")
		}
		return c.createImage(body)
	case "create-from-vm":
		return errCode("NotAvailable", "custom image creation is not currently available")
	case "import-docker-image", "import-lxd-image":
		return errCode("ServiceUnavailableError", "Workflow API is down.")
	default:
		return crashf("TypeError: Cannot read property 'serialize' of undefined (action %q)", action)
	}
}

// createImage makes an unactivated image. Without an object that names an owner
// the server dies.
func (c *call) createImage(body any) error {
	data, ok := body.(*object)
	if !ok {
		return crashf("AssertionError: opts.owner (uuid) is required")
	}
	if account := c.q.get("account"); account != "" {
		switch {
		case !uuidRE.MatchString(account):
			return errField("InvalidParameter", "account", "Invalid", "invalid \"account\": not a UUID: \"%s\"", account)
		case !truthy(data.get("owner")):
			data.set("owner", account)
		case data.str("owner") != account:
			return errField("InvalidParameter", "owner", "Invalid", "invalid owner: given owner, \"%s\", does not match account, \"%s\"", jsString(data, "owner"), account)
		}
	}
	if data.has("state") {
		e := errCode("ValidationFailed", `invalid image data: "state"`)
		e.fields = []fieldError{{"state", "NotAllowed", "Parameter cannot be set"}}
		return e
	}
	if !data.has("v") {
		data.set("v", json.Number("2"))
	}
	c.setChannel(data)
	if !uuidRE.MatchString(strings.ToLower(data.str("owner"))) {
		return crashf("AssertionError: opts.owner (uuid) is required")
	}
	if err := c.originExists(data); err != nil {
		return err
	}
	raw, err := c.makeRaw(data, false)
	if err != nil {
		return err
	}
	return c.add(raw)
}

// setChannel puts a new image in the request's channel, whatever its body says.
func (c *call) setChannel(data *object) {
	data.del("channels")
	if c.channel != nil {
		data.set("channels", []any{c.channel.Name})
	}
}

func (c *call) originExists(data *object) error {
	if o := data.get("origin"); truthy(o) && c.p.db.find(toString(o)) == nil {
		return errCode("OriginDoesNotExist", "origin image \"%s\" does not exist", toString(o))
	}
	return nil
}

// add writes a new image: archive, then manifest, then memory.
func (c *call) add(raw *object) error {
	c.p.writes.Lock()
	err := c.disk.writeArchive(raw)
	if err == nil {
		err = c.disk.writeManifest(raw)
	}
	if err == nil {
		c.p.db.put(raw)
	}
	c.p.writes.Unlock()
	if err != nil {
		return err
	}
	c.sendImage(c.view().public(raw))
	return nil
}

// makeRaw builds the internal form from what a client sent. Members it does not
// know are refused.
func (c *call) makeRaw(data *object, imported bool) (*object, error) {
	raw := newObject()
	for _, k := range []string{"v", "owner", "name", "version", "type", "os"} {
		copyMember(raw, data, k)
	}
	for _, k := range []string{"public", "disabled"} {
		raw.set(k, false)
		if truthy(data.get(k)) {
			raw.set(k, data.get(k))
		}
	}
	raw.set("activated", false)
	raw.set("state", "unactivated")
	raw.set("acl", []any{})
	copyMember(raw, data, "acl")
	copyTruthy(raw, data, "description", "homepage", "eula", "icon")
	for _, k := range []string{"error", "requirements", "users", "traits"} {
		copyMember(raw, data, k)
	}
	if data.has("tags") {
		tags, ok := data.get("tags").(*object)
		if !ok {
			return nil, crashf("AssertionError: tagsObj (object) is required")
		}
		raw.set("tags", tagList(tags))
		raw.set("tagsObj", tags)
	}
	for _, k := range []string{"billing_tags", "generate_passwords", "inherited_directories", "origin", "channels"} {
		copyMember(raw, data, k)
	}
	known := []string{"v", "owner", "name", "version", "description", "homepage", "eula", "icon", "type", "os", "origin", "public",
		"disabled", "acl", "error", "requirements", "users", "billing_tags", "traits", "tags", "generate_passwords",
		"inherited_directories", "channels", "files", "state"}
	if raw.str("type") == "zvol" {
		zvol := []string{"nic_driver", "disk_driver", "cpu_type", "image_size"}
		for _, k := range zvol {
			copyMember(raw, data, k)
		}
		known = append(known, zvol...)
	}
	if err := identify(raw, data, imported, &known); err != nil {
		return nil, err
	}
	if err := refuseExtra(data, known); err != nil {
		return nil, err
	}
	return raw, c.p.rules.normalize(raw)
}

// identify gives a new image a uuid of its own and lets an imported one keep
// its uuid and publishing time.
func identify(raw, data *object, imported bool, known *[]string) error {
	if !imported {
		raw.set("uuid", newUUID())
		return nil
	}
	if !truthy(data.get("uuid")) {
		return errField("InvalidParameter", "uuid", "MissingParameter", `missing "uuid"`)
	}
	raw.set("uuid", data.get("uuid"))
	if p := data.get("published_at"); truthy(p) {
		if _, ok := p.(string); !ok {
			return errField("InvalidParameter", "published_at", "Invalid", `invalid "published_at"`)
		}
		raw.set("published_at", p)
	}
	copyTruthy(raw, data, "urn")
	*known = append(*known, "uuid", "published_at", "urn")
	return nil
}

func refuseExtra(data *object, known []string) error {
	var extra []string
	e := errCode("InvalidParameter", "")
	for _, k := range data.keys {
		if !slices.Contains(known, k) {
			extra = append(extra, k)
			e.fields = append(e.fields, fieldError{field: k, code: "Invalid"})
		}
	}
	if extra == nil {
		return nil
	}
	e.message = `invalid extra parameters: "` + strings.Join(extra, `", "`) + `"`
	return e
}

// importImage keeps uuid and publishing time but forces the owner.
func (c *call) importImage(body any) error {
	if c.q.get("account") != "" {
		return errCode("OperatorOnly", "operator-only endpoint called by a non-operator")
	}
	data, ok := body.(*object)
	if !ok {
		return crashf("TypeError: Cannot read property 'uuid' of undefined")
	}
	if c.uuid != data.str("uuid") {
		return errField("InvalidParameter", "uuid", "Invalid", "URL UUID, \"%s\" and body UUID, \"%s\" do not match", c.uuid, jsString(data, "uuid"))
	}
	if _, err := c.q.boolean("skip_owner_check"); err != nil {
		return err
	}
	c.setChannel(data)
	if c.p.db.find(c.uuid) != nil {
		return errCode("ImageUuidAlreadyExists", "image uuid \"%s\" already exists", c.uuid)
	}
	if err := c.originExists(data); err != nil {
		return err
	}
	data.set("owner", unsetOwner)
	raw, err := c.makeRaw(data, true)
	if err != nil {
		return err
	}
	return c.add(raw)
}

// modify changes an image in memory and then on disk: archive first. When the
// disk fails, memory stays changed.
func (c *call) modify(change func(raw *object) error) error {
	c.p.writes.Lock()
	defer c.p.writes.Unlock()
	var raw *object
	var err error
	found := c.p.db.get(c.uuid, func(o *object) {
		if err = change(o); err == nil {
			raw = deepCopy(o).(*object)
		}
	})
	if !found {
		return errNotFound(c.uuid)
	}
	if err == nil {
		err = c.store(raw)
	}
	if err != nil {
		return err
	}
	c.sendImage(c.view().public(raw))
	return nil
}

func (c *call) store(raw *object) error {
	if err := c.disk.writeArchive(raw); err != nil {
		return err
	}
	if err := c.disk.writeManifest(raw); err != nil {
		return err
	}
	c.p.db.put(raw)
	return nil
}

func (c *call) checkOwner(raw *object) error {
	account := c.q.get("account")
	if account != "" && account != raw.str("owner") {
		return errCode("NotImageOwner", "account %s is not the owner of image %s", account, c.uuid)
	}
	return nil
}

func (c *call) deleteImage() error {
	raw, err := c.load()
	if err != nil {
		return err
	}
	if err := c.checkOwner(raw); err != nil {
		return err
	}
	force, err := c.q.boolean("force_all_channels")
	if err != nil {
		return err
	}
	if err := c.noDependents(); err != nil {
		return err
	}
	if c.channel != nil && len(stringList(raw.get("channels"))) > 1 && !force {
		err = c.leaveChannel()
	} else {
		err = c.reallyDelete(raw)
	}
	if err != nil {
		return err
	}
	c.sendEmpty(http.StatusNoContent)
	return nil
}

func (c *call) noDependents() error {
	var deps []string
	for _, im := range c.p.db.list() {
		if im.field("origin") == c.uuid && (c.channel == nil || slices.Contains(im.channels, c.channel.Name)) {
			deps = append(deps, im.uuid)
		}
	}
	if deps == nil {
		return nil
	}
	return dependentsError(c.uuid, deps)
}

func (c *call) leaveChannel() error {
	c.p.writes.Lock()
	defer c.p.writes.Unlock()
	// The archive is written before the channel list everybody sees changes, so
	// it still lists the channel that is left.
	var raw, before *object
	c.p.db.get(c.uuid, func(o *object) {
		before = deepCopy(o).(*object)
		o.set("channels", slices.DeleteFunc(slices.Clone(o.get("channels").([]any)), func(v any) bool { return v == c.channel.Name }))
		raw = deepCopy(o).(*object)
	})
	if err := c.disk.writeArchive(before); err != nil {
		return err
	}
	if err := c.disk.writeManifest(raw); err != nil {
		return err
	}
	c.p.db.put(raw)
	return nil
}

// reallyDelete removes the manifest first and the files after it: when a file
// cannot be removed the image is gone all the same.
func (c *call) reallyDelete(raw *object) error {
	c.p.writes.Lock()
	err := c.disk.removeManifest(c.uuid)
	if err == nil {
		c.p.db.remove(c.uuid)
	}
	c.p.writes.Unlock()
	if err != nil {
		return err
	}
	for i, f := range filesOf(raw) {
		if err := c.deleteStored(f, fileName(i)); err != nil {
			return errStorage(err, "error deleting image file")
		}
	}
	if icon, ok := raw.get("icon").(*object); ok {
		if err := c.deleteStored(icon, "icon"); err != nil {
			c.p.log.put(50, "error deleting icon, this image may have a zombie icon file: "+storageText(err), nil)
		}
	}
	return nil
}
