package imgapid

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

func fileName(index int) string { return "file" + strconv.Itoa(index) }

func dependentsError(uuid string, deps []string) error {
	summary := strings.Join(deps, ", ")
	if len(deps) >= 10 {
		summary = strings.Join(deps[:5], ", ") + ", and " + strconv.Itoa(len(deps)-5) + " more..."
	}
	return errCode("ImageHasDependentImages", "image \"%s\" has %d dependent incremental image(s): %s", uuid, len(deps), summary)
}

// postImage is every change that names its action in the query.
func (c *call) postImage() error {
	body, err := c.body()
	if err != nil {
		return err
	}
	action := c.q.get("action")
	switch action {
	case "import-remote":
		if !c.q.has("source") {
			return errField("ValidationFailed", "source", "MissingParameter", "missing source parameter")
		}
		return errCode("ServiceUnavailableError", "Workflow API is down.")
	case "import":
		if !c.q.has("source") {
			return c.importImage(body)
		}
		return errCode("NotAvailable", "this is a lab: it does not fetch from other servers")
	case "import-from-datacenter":
		if !uuidRE.MatchString(c.q.get("account")) {
			return errField("ValidationFailed", "account", "Invalid", "invalid image \"account\" (not a UUID): %s", c.q.get("account"))
		}
		return errCode("NotAvailable", "this is a lab: it does not fetch from other servers")
	}
	raw, err := c.load()
	if err != nil {
		return err
	}
	if action == "change-stor" {
		return c.changeStor(raw)
	}
	if err := c.checkOwner(raw); err != nil {
		return err
	}
	if action == "export" {
		return c.export(raw)
	}
	if done, err := c.conditions(time.Time{}); done || err != nil {
		return err
	}
	return c.act(action, body)
}

func (c *call) act(action string, body any) error {
	switch action {
	case "activate":
		return c.modify(c.activate)
	case "enable", "disable":
		return c.modify(func(raw *object) error {
			raw.set("disabled", action == "disable")
			raw.set("state", stateOf(isTrue(raw, "activated"), action == "disable"))
			return nil
		})
	case "channel-add":
		if len(c.p.set.Channels) > 0 {
			return c.addChannel(body)
		}
	case "update":
		return c.update(body)
	case "":
		return errField("InvalidParameter", "action", "MissingParameter", `no image "action" was specified`)
	}
	return errField("InvalidParameter", "action", "Invalid", "\"%s\" is not a valid action", action)
}

func (c *call) activate(raw *object) error {
	if isTrue(raw, "activated") {
		return errCode("ImageAlreadyActivated", "image \"%s\" is already activated", c.uuid)
	}
	if len(filesOf(raw)) == 0 {
		return errCode("NoActivationNoFile", "image \"%s\" cannot be activated: it has no file", c.uuid)
	}
	if !truthy(raw.get("published_at")) {
		raw.set("published_at", isoDate(c.p.cfg.Now()))
	}
	raw.set("activated", true)
	raw.set("state", stateOf(true, isTrue(raw, "disabled")))
	return nil
}

func (c *call) addChannel(body any) error {
	o, ok := body.(*object)
	if !ok {
		return crashf("TypeError: Cannot read property 'channel' of undefined")
	}
	name := jsString(o, "channel")
	if c.p.set.channel(name) == nil {
		return errField("ValidationFailed", "channel", "Invalid", "unknown channel: %s", name)
	}
	return c.modify(func(raw *object) error {
		list, _ := raw.get("channels").([]any)
		if !slices.Contains(list, any(name)) {
			raw.set("channels", append(slices.Clone(list), name))
		}
		return nil
	})
}

// update lays new values over a manifest. Some members may be changed only
// before activation.
func (c *call) update(body any) error {
	data, ok := body.(*object)
	if _, list := body.([]any); list {
		data, ok = newObject(), true
	}
	if !ok {
		return errField("ValidationFailed", "body", "MissingParameter", "missing request body")
	}
	if len(data.keys) == 0 {
		e := errCode("ValidationFailed", "invalid image update data: no parameters provided")
		e.fields = []fieldError{}
		return e
	}
	raw, err := c.load()
	if err != nil {
		return err
	}
	if err := c.updatable(data, raw); err != nil {
		return err
	}
	if t, ok := data.get("tags").(*object); ok {
		data.set("tagsObj", t)
		data.set("tags", tagList(t))
	}
	for _, k := range data.keys {
		switch v := data.get(k); {
		case k == "files":
			updateDigests(raw, data)
		case v == nil:
			raw.del(k)
		default:
			raw.set(k, v)
		}
	}
	if err := c.p.rules.normalize(raw); err != nil {
		return err
	}
	return c.replace(raw)
}

// replace stores an updated manifest, under a new uuid if that was changed.
func (c *call) replace(raw *object) error {
	if uuid, files := raw.str("uuid"), filesOf(raw); uuid != c.uuid && len(files) > 0 {
		if err := c.moveStored(files[0], uuid); err != nil {
			return err
		}
	}
	c.p.writes.Lock()
	defer c.p.writes.Unlock()
	if err := c.store(raw); err != nil {
		return err
	}
	if raw.str("uuid") != c.uuid {
		if err := c.disk.removeManifest(c.uuid); err != nil {
			return err
		}
		c.p.db.remove(c.uuid)
	}
	c.sendImage(c.view().public(raw))
	return nil
}

// updatable names every member of an update that may not be changed.
func (c *call) updatable(data, raw *object) error {
	operator := []string{"state", "error", "billing_tags", "traits", "files", "origin", "uuid"}
	var errs []fieldError
	for _, k := range data.keys {
		if !slices.Contains(mutableFields, k) && !slices.Contains(operator, k) {
			errs = append(errs, fieldError{k, "NotAllowed", "Parameter cannot be updated"})
		}
	}
	for _, k := range operator {
		unactivatedOnly := k == "files" || k == "origin" || k == "uuid"
		switch {
		case !data.has(k):
		case c.q.has("account"):
			errs = append(errs, fieldError{k, "NotAllowed", "Can only be updated by operators"})
		case unactivatedOnly && isTrue(raw, "activated"):
			errs = append(errs, fieldError{k, "NotAllowed", "Can only be updated on unactivated images"})
		case k == "files":
			more, err := digestsOnly(data, raw)
			if err != nil {
				return err
			}
			errs = append(errs, more...)
		}
	}
	if errs == nil {
		return nil
	}
	names := make([]string, len(errs))
	for i := range errs {
		names[i] = errs[i].field
	}
	e := errCode("ValidationFailed", "invalid image update data: %s", strings.Join(names, ", "))
	e.fields = errs
	return e
}

func digestsOnly(data, raw *object) ([]fieldError, error) {
	list, _ := data.get("files").([]any)
	var given *object
	if len(list) > 0 {
		given, _ = list[0].(*object)
	}
	have := filesOf(raw)
	if given == nil || len(have) == 0 {
		return nil, crashf("TypeError: Cannot convert undefined or null to object")
	}
	var errs []fieldError
	for _, k := range given.keys {
		if k != "digest" && k != "uncompressedDigest" && toString(given.get(k)) != jsString(have[0], k) {
			errs = append(errs, fieldError{"files", "NotAllowed", `Can only update "digest" or "uncompressedDigest" fields on files`})
		}
	}
	return errs, nil
}

func updateDigests(raw, data *object) {
	given := filesOf(data)
	have := filesOf(raw)
	if len(given) > 0 && len(have) > 0 {
		copyTruthy(have[0], given[0], "digest", "uncompressedDigest")
	}
}

func (c *call) changeACL() error {
	body, err := c.body()
	if err != nil {
		return err
	}
	raw, err := c.load()
	if err == nil {
		err = c.checkOwner(raw)
	}
	if err != nil {
		return err
	}
	action := c.q.get("action")
	if action != "" && action != "add" && action != "remove" {
		return errField("InvalidParameter", "action", "Invalid", "\"%s\" is not a valid action", action)
	}
	list, ok := body.([]any)
	if !ok {
		return errField("InvalidParameter", "acl", "Invalid", "invalid image \"acl\" (not an array)")
	}
	for i, e := range list {
		if !uuidRE.MatchString(toString(e)) {
			return errField("InvalidParameter", "acl", "Invalid", "invalid image \"acl\" (item %d is not a UUID): %s", i, toString(e))
		}
	}
	return c.modify(func(raw *object) error {
		acl, _ := raw.get("acl").([]any)
		acl = slices.Clone(acl)
		for _, e := range list {
			acl = slices.DeleteFunc(acl, func(v any) bool { return v == e && action == "remove" })
			if action != "remove" && !slices.Contains(acl, e) {
				acl = append(acl, e)
			}
		}
		raw.set("acl", acl)
		return nil
	})
}

func intNumber(n int64) json.Number { return json.Number(strconv.FormatInt(n, 10)) }
