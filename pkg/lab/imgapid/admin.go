package imgapid

import (
	"net/http"
	"os"
	"strings"
)

func redirect(to string) func(*call) error {
	return func(c *call) error {
		now := c.p.cfg.Now().UTC().Format(http.TimeFormat)
		h := c.w.Header()
		h["Date"] = []string{now, now} // upstream sends it twice
		h.Set("Location", to)
		h.Set("Content-Length", "0")
		c.sendEmpty(http.StatusMovedPermanently)
		return nil
	}
}

func (c *call) dataset() error {
	return redirect("/images/" + c.uuid)(c)
}

// The lab has no built documentation and no icon, as the observed server.
func noDocs(c *call) error { return errCode("ResourceNotFound", "%s", c.r.URL.Path) }

func noFavicon(c *call) error {
	return &apiError{status: 500, message: "ENOENT: no such file or directory, open '/opt/smartdc/imgapi/build/docs/public/media/img/favicon.ico'"}
}

func (c *call) ping() error {
	if c.q.has("error") {
		name := c.q.get("error")
		if name == "" {
			name = "Internal"
		}
		return sampleError(strings.TrimSuffix(name, "Error"))
	}
	o := newObject()
	o.set("ping", "pong")
	o.set("version", Version)
	o.set("imgapi", true)
	if c.user != "" {
		o.set("pid", os.Getpid())
		o.set("user", c.user)
	}
	c.send(http.StatusOK, o)
	return nil
}

func (c *call) listChannels() error {
	list := []any{}
	for _, ch := range c.p.set.Channels {
		o := newObject()
		o.set("name", ch.Name)
		o.set("description", ch.Description)
		if ch.Default {
			o.set("default", true)
		}
		list = append(list, o)
	}
	c.send(http.StatusOK, list)
	return nil
}

// state shows the server's memory.
func (c *call) state() error {
	images := c.p.db.list()
	byUUID := newObject()
	for _, im := range images {
		e := newObject()
		e.set("value", im.object())
		if im.published != "" {
			e.set("published_at", im.published)
		}
		byUUID.set(im.uuid, e)
	}
	o, cache, level, db := newObject(), newObject(), newObject(), newObject()
	cache.set("ImageGet", []any{})
	cache.set("ImageList", []any{})
	level.set("level", 20)
	db.set("manifestFromUuid", byUUID)
	o.set("cache", cache)
	o.set("log", level)
	o.set("storageTypes", c.p.set.StorageTypes)
	o.set("db", db)
	c.send(http.StatusOK, o)
	return nil
}

func (c *call) updateState() error {
	switch action := c.q.get("action"); action {
	case "dropcaches":
		c.p.db.dropCaches()
		c.w.Header().Set("Content-Length", "0")
		c.sendEmpty(http.StatusAccepted)
		return nil
	case "":
		return errCode("MissingParameter", `"action" is required`)
	default:
		return errCode("InvalidArgument", `"%s" is not a valid action`, action)
	}
}

// reloadKeys answers before the keys are read, and 200 even when that fails.
func (c *call) reloadKeys() error {
	if c.p.watcher != nil {
		c.p.watcher.poke()
	}
	go c.p.keys.reload()
	c.send(http.StatusOK, newObject())
	return nil
}

func (c *call) jobs() error {
	if _, err := c.load(); err != nil {
		return err
	}
	return crashf("TypeError: Cannot read property 'connected' of undefined")
}

func (c *call) push() error {
	if _, err := c.load(); err != nil {
		return err
	}
	return errField("ValidationFailed", "type", "Invalid", "image is not a docker image")
}

// fetchRefused answers what would make the server fetch from elsewhere.
func (c *call) fetchRefused() error {
	if _, err := c.load(); err != nil {
		return err
	}
	return errCode("NotAvailable", "this is a lab: it does not fetch from other servers")
}
