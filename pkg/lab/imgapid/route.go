package imgapid

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tritonops/tritonops/pkg/lab/fault"
)

// A call is one request on its way through a route.
type call struct {
	p     *Process
	w     http.ResponseWriter
	r     *http.Request
	q     query
	uuid  string
	reqID string
	start time.Time

	ctx     context.Context // ends with the client or the process
	user    string          // who signed the request
	channel *channel        // nil: no channels, or all of them
	version versionRange
	admin   bool
	etag    string // of the image's manifest, once it is loaded
	routed  bool   // errors of the router carry none of the usual headers
	disk    disk
}

// A route is a path, its auth and its steps. ":uuid" stands for one segment.
type route struct {
	method, path string
	auth         auth
	channel      channelUse
	handle       func(*call) error
}

type auth int

const (
	ignored auth = iota // the Authorization header is not looked at
	passive             // a bad one is refused, none is fine
	strict
)

type channelUse int

const (
	noChannel channelUse = iota
	oneChannel
	anyChannel // "*" is allowed
)

func (p *Process) routes() []route {
	list := []route{
		{"GET", "/", ignored, noChannel, redirect("/docs/")},
		{"GET", "/docs", ignored, noChannel, redirect("/docs/")},
		{"GET", "/docs/", ignored, noChannel, noDocs},
		{"GET", "/favicon.ico", ignored, noChannel, noFavicon},
		{"GET", "/ping", passive, noChannel, (*call).ping},
		{"GET", "/state", strict, noChannel, (*call).state},
		{"POST", "/state", strict, noChannel, (*call).updateState},
		{"POST", "/authkeys/reload", strict, noChannel, (*call).reloadKeys},
		{"GET", "/datasets", ignored, noChannel, redirect("/images")},
		{"GET", "/datasets/:uuid", ignored, noChannel, (*call).dataset},
		{"GET", "/images", passive, anyChannel, (*call).listImages},
		{"POST", "/images", strict, oneChannel, (*call).postImages},
		{"GET", "/images/:uuid", passive, anyChannel, (*call).getImage},
		{"POST", "/images/:uuid", strict, oneChannel, (*call).postImage},
		{"DELETE", "/images/:uuid", strict, oneChannel, (*call).deleteImage},
		{"GET", "/images/:uuid/file", ignored, anyChannel, (*call).getFile},
		{"PUT", "/images/:uuid/file", strict, oneChannel, (*call).addFile},
		{"POST", "/images/:uuid/file/from-url", strict, oneChannel, (*call).fetchRefused},
		{"GET", "/images/:uuid/icon", ignored, anyChannel, (*call).getIcon},
		{"PUT", "/images/:uuid/icon", strict, oneChannel, (*call).addIcon},
		{"DELETE", "/images/:uuid/icon", strict, oneChannel, (*call).deleteIcon},
		{"POST", "/images/:uuid/acl", strict, oneChannel, (*call).changeACL},
		{"POST", "/images/:uuid/push", strict, noChannel, (*call).push},
		{"GET", "/images/:uuid/jobs", ignored, anyChannel, (*call).jobs},
	}
	if len(p.set.Channels) > 0 {
		list = append(list, route{"GET", "/channels", passive, noChannel, (*call).listChannels})
	}
	return list
}

// match says whether path is of the route and what stands for ":uuid".
func (rt route) match(path string) (string, bool) {
	pat, got := strings.Split(rt.path, "/"), strings.Split(path, "/")
	if len(pat) != len(got) {
		return "", false
	}
	uuid := ""
	for i := range pat {
		switch {
		case pat[i] == ":uuid" && got[i] != "":
			uuid = got[i]
		case pat[i] != got[i]:
			return "", false
		}
	}
	return uuid, true
}

// handle is the whole server as one handler.
func (p *Process) handle(w http.ResponseWriter, r *http.Request) {
	if p.isDead() {
		panic(http.ErrAbortHandler)
	}
	if _, ok := fault.Flagged(r.Context(), Crash); ok {
		p.Crash("fault " + string(Crash))
		panic(http.ErrAbortHandler)
	}
	if strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
		w.WriteHeader(http.StatusContinue) // before auth and before anything is read
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer context.AfterFunc(p.life, cancel)()
	defer cancel()
	rt, uuid, err := p.find(r)
	c := &call{p: p, w: w, r: r, ctx: ctx, q: parseQuery(r.URL.RawQuery), uuid: uuid, start: p.cfg.Now(), disk: p.diskOf(r.Context())}
	c.reqID = cmp.Or(r.Header.Get("X-Request-Id"), r.Header.Get("Request-Id"), newUUID())
	if err == nil {
		c.version, _ = parseVersion(r.Header.Get("Accept-Version"))
		c.commonHeaders()
		err = c.run(rt)
	}
	c.finish(err)
}

func (p *Process) diskOf(ctx context.Context) disk {
	d := disk{p: p}
	_, d.full = fault.Flagged(ctx, fault.DiskFull)
	_, d.crashMid = fault.Flagged(ctx, CrashMidWrite)
	if f, ok := fault.Flagged(ctx, SlowRewrite); ok {
		d.pause = cmp.Or(time.Duration(f.Delay), time.Minute)
	}
	return d
}

func (c *call) finish(err error) {
	var died *crash
	var aborted *abortedError
	switch {
	case err == nil:
		return
	case errors.As(err, &died):
		c.p.Crash(fmt.Sprintf("%s (%s %s)", died.reason, c.r.Method, c.r.URL.Path))
		panic(http.ErrAbortHandler)
	case errors.As(err, &aborted), errors.Is(err, errDead):
		panic(http.ErrAbortHandler)
	}
	var ae *apiError
	if !errors.As(err, &ae) {
		ae = errDisk(err)
	}
	var me *methodError
	if errors.As(err, &me) {
		c.w.Header().Set("Allow", strings.Join(me.allow, ", "))
	}
	if ae.status >= 500 {
		c.p.log.put(50, ae.message, nil)
	}
	if ae.status == http.StatusUnauthorized {
		// or Go's library would take in the body before the answer goes out
		_ = http.NewResponseController(c.w).EnableFullDuplex() // HTTP/1.1 always can
	}
	c.send(ae.status, ae.body())
	if ae.status == http.StatusUnauthorized {
		c.stopReading()
	}
}

// find picks the route. Errors at this stage carry none of the usual headers.
func (p *Process) find(r *http.Request) (route, string, error) {
	path := r.URL.EscapedPath()
	var allow []string
	for _, rt := range p.table {
		uuid, ok := rt.match(path)
		if !ok {
			continue
		}
		if rt.method != r.Method {
			allow = append(allow, rt.method)
			continue
		}
		if v, ok := parseVersion(r.Header.Get("Accept-Version")); !ok || !v.served() {
			return rt, "", &apiError{status: 400, code: "InvalidVersion",
				message: fmt.Sprintf("%s is not supported by %s %s", r.Header.Get("Accept-Version"), r.Method, path)}
		}
		return rt, uuid, nil
	}
	if allow != nil {
		slices.Sort(allow)
		return route{}, "", &methodError{&apiError{status: 405, code: "MethodNotAllowedError", message: r.Method + " is not allowed"}, allow}
	}
	return route{}, "", errCode("ResourceNotFound", "%s does not exist", r.URL.Path)
}

type methodError struct {
	*apiError
	allow []string
}

func (e *methodError) Unwrap() error { return e.apiError }

func (c *call) run(rt route) error {
	needsUUID := strings.Contains(rt.path, ":uuid") && rt.path != "/datasets/:uuid"
	if rt.auth != strict && needsUUID {
		if err := c.validUUID(); err != nil {
			return err
		}
	}
	if rt.auth != ignored {
		user, err := c.p.authenticate(c.r, rt.auth == passive)
		if err != nil {
			return err
		}
		c.user = user
	}
	if rt.auth == strict && needsUUID {
		if err := c.validUUID(); err != nil {
			return err
		}
	}
	if rt.channel != noChannel {
		if err := c.pickChannel(rt.channel == anyChannel); err != nil {
			return err
		}
	}
	return rt.handle(c)
}

func (c *call) validUUID() error {
	if !uuidRE.MatchString(c.uuid) {
		return errCode("ResourceNotFound", "%s does not exist", c.r.RequestURI)
	}
	return nil
}

func (c *call) pickChannel(star bool) error {
	if len(c.p.set.Channels) == 0 {
		return nil
	}
	name := c.q.get("channel")
	switch {
	case name == "":
		if c.channel = c.p.set.defaultChannel(); c.channel == nil {
			return errField("ValidationFailed", "channel", "MissingParameter", "channel not specified and the server has no default channel")
		}
	case name == "*" && star:
	default:
		if c.channel = c.p.set.channel(name); c.channel == nil {
			return errField("ValidationFailed", "channel", "Invalid", "unknown channel: %s", name)
		}
	}
	return nil
}

func (c *call) commonHeaders() {
	c.routed = true
	h := c.w.Header()
	h["Date"] = []string{c.p.cfg.Now().UTC().Format(http.TimeFormat)}
	h["Server"] = []string{cmp.Or(c.p.set.ServerName, "imgapi/"+Version)}
	h["x-request-id"] = []string{c.reqID}
	h["x-server-name"] = []string{c.p.cfg.Hostname}
	h["Connection"] = []string{"keep-alive"}
}

// stamp sets the header that tells how long the answer took.
func (c *call) stamp() {
	if c.routed {
		c.w.Header()["x-response-time"] = []string{strconv.FormatInt(c.p.cfg.Now().Sub(c.start).Milliseconds(), 10)}
	}
}

// send answers in the form the client accepts: JSON indented by two, or compact
// as text/plain.
func (c *call) send(status int, body any) {
	c.stamp()
	h := c.w.Header()
	data, ctype := indented(body), "application/json"
	switch accepted(c.r.Header.Get("Accept")) {
	case "text/plain":
		data, ctype = compact(body), "text/plain"
	case "":
		h.Del("Content-Length")
		c.w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	h.Set("Content-Type", ctype)
	h.Set("Content-Length", strconv.Itoa(len(data)))
	c.w.WriteHeader(status)
	_, _ = c.w.Write(data) // the client is gone then
}

func (c *call) sendEmpty(status int) {
	c.stamp()
	c.w.WriteHeader(status)
}

func accepted(accept string) string {
	if accept == "" {
		return "application/json"
	}
	for _, part := range strings.Split(accept, ",") {
		t, _, _ := strings.Cut(part, ";")
		switch strings.TrimSpace(t) {
		case "*/*", "application/json", "application/*":
			return "application/json"
		case "text/plain", "text/*":
			return "text/plain"
		}
	}
	return ""
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
