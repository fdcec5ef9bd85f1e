package mantad

import (
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// call is one request under way.
type call struct {
	s        *Server
	w        http.ResponseWriter
	r        *http.Request
	target   string // URL as signed
	path     string // raw path without trailing slashes
	query    url.Values
	frontEnd int

	caller caller
	owner  string
	key    string
	parent string // key of the directory
	entry  *entry // nil: absent
	root   bool   // an account's area
}

func newID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // never fails, by contract
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// serve runs a request through the service's chain of checks.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	c := &call{s: s, w: w, r: r, target: requestTarget(r)}
	c.frontEnd, _ = r.Context().Value(frontKey{}).(int)
	path, query, _ := strings.Cut(c.target, "?")
	c.path = strings.TrimRight(path, "/")
	c.query, _ = url.ParseQuery(query) // what does not parse is not there
	if strings.HasPrefix(r.UserAgent(), "curl") {
		w.Header().Set("Connection", "close")
	}
	if err := c.run(); err != nil {
		c.fail(err)
	}
}

func (c *call) run() error {
	rt := routeOf(c.path)
	if err := c.routed(rt); err != nil {
		return err
	}
	var err error
	if c.caller, err = c.s.authenticate(c); err != nil {
		return err
	}
	if err := c.loadOwner(); err != nil {
		return err
	}
	if err := c.s.activeRoles(c); err != nil {
		return err
	}
	switch rt {
	case routeTokens:
		return fault(http.StatusNotImplemented, "NotImplemented", "the lab makes no auth tokens")
	case routeAccount:
		return c.accountRoot()
	}
	if c.key, err = decodeKey(c.path); err != nil {
		return err
	}
	c.root = isRoot(c.path)
	c.parent, _ = splitPath(c.key)
	if err := c.load(); err != nil {
		return err
	}
	if err := c.s.authorize(c); err != nil {
		return err
	}
	return c.dispatch()
}

// routed refuses what no route is there for.
func (c *call) routed(rt route) error {
	allow := "GET, HEAD, PUT, DELETE"
	switch rt {
	case routeNone:
		return fault(http.StatusNotFound, "ResourceNotFound", "%s does not exist", c.path)
	case routeTokens:
		allow = "POST"
	case routeAccount:
		allow = "GET, HEAD, PUT, POST, DELETE"
	}
	for _, m := range strings.Split(allow, ", ") {
		if m == c.r.Method {
			return nil
		}
	}
	e := fault(http.StatusMethodNotAllowed, "MethodNotAllowed", "%s is not allowed", c.r.Method)
	e.header = map[string]string{"Allow": allow}
	return e
}

// public says whether the path is below an account's public area.
func (c *call) public() bool {
	parts := strings.SplitN(c.path, "/", 4)
	return len(parts) > 2 && parts[2] == "public"
}

func (c *call) loadOwner() error {
	login, err := url.PathUnescape(strings.SplitN(c.path, "/", 3)[1])
	if err != nil {
		return errInvalidPath(c.path)
	}
	a, ok := c.s.accounts.account(login)
	switch {
	case !ok:
		return fault(http.StatusForbidden, "AccountDoesNotExist", "%s does not exist", login)
	case c.caller.anon && !c.public():
		return errNotAllowed(c.caller.name(), c.path)
	case a.Blocked && !c.caller.Operator:
		return fault(http.StatusForbidden, "AccountBlocked", "%s is not an active account", login)
	}
	c.owner = login
	return nil
}

// load finds the entry, and refuses a path that leads nowhere before anything is
// said about permission.
func (c *call) load() error {
	c.entry = c.s.store.get(c.key)
	if c.entry != nil {
		h := c.w.Header()
		if !c.entry.dir {
			h.Set("Etag", c.entry.etag())
		}
		h.Set("Last-Modified", httpTime(c.entry.mtime))
		return nil
	}
	if c.root {
		return nil
	}
	if c.r.Method != http.MethodPut {
		return errNotFound(c.path)
	}
	if !c.isArea(c.parent) && c.s.store.get(c.parent) == nil {
		dir, _ := splitPath(c.path)
		return fault(http.StatusNotFound, "DirectoryDoesNotExist", "%s does not exist", dir)
	}
	return nil
}

// isArea says whether a key is an area, which is there without having been made.
func (c *call) isArea(key string) bool {
	return isRoot(key) && strings.Count(key, "/") == 2
}

// isDir says whether the loaded entry is a directory.
func (c *call) isDir() bool { return c.root || c.entry != nil && c.entry.dir }

func (c *call) dispatch() error {
	switch c.r.Method {
	case http.MethodPut:
		switch mediaType(c.r.Header.Get("Content-Type")) {
		case "directory":
			return c.putDirectory()
		case "link":
			return fault(http.StatusForbidden, "SnaplinksDisabledError", "Manta v2 does not support SnapLinks.")
		}
		return c.putObject()
	case http.MethodDelete:
		return c.remove()
	}
	if c.isDir() {
		return c.list()
	}
	return c.get()
}

// fail answers with an error. The rest of a body that the client sends without
// having been asked is read and dropped, so that the client gets to the answer.
func (c *call) fail(err error) {
	var e *apiError
	switch {
	case errors.As(err, &e):
	case errors.Is(err, syscall.ENOSPC):
		e = errNoSpace(max(c.r.ContentLength, 0))
	default:
		e = errInternal()
	}
	ctl := http.NewResponseController(c.w)
	drain := c.r.Method == http.MethodPut && c.r.ContentLength != 0 && c.r.Header.Get("Expect") == "" && c.w.Header().Get("Connection") == ""
	if drain {
		drain = ctl.EnableFullDuplex() == nil
	}
	e.write(c.w, c.r)
	if !drain || ctl.Flush() != nil {
		return
	}
	_, _ = io.Copy(io.Discard, c.timedBody()) // a client that stopped sending is fine too
}

// timedBody is the request's body, which fails after DataTimeout without data.
func (c *call) timedBody() io.Reader {
	return &timedReader{r: c.r.Body, ctl: http.NewResponseController(c.w), wait: c.s.cfg.DataTimeout}
}

type timedReader struct {
	r    io.Reader
	ctl  *http.ResponseController
	wait time.Duration
	set  time.Time
}

func (t *timedReader) Read(p []byte) (int, error) {
	if now := time.Now(); now.Sub(t.set) > min(time.Second, t.wait/4) {
		t.set = now
		_ = t.ctl.SetReadDeadline(now.Add(t.wait)) // without a connection there is nothing to time
	}
	n, err := t.r.Read(p)
	if err != nil {
		_ = t.ctl.SetReadDeadline(time.Time{}) // the next request has its own
	}
	return n, err
}

func httpTime(ms int64) string { return time.UnixMilli(ms).UTC().Format(http.TimeFormat) }
