package fault

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Options tell the middleware whose faults it applies.
type Options struct {
	Set      *Set
	Service  string
	Instance string
	// Error writes an error answer the way the service does. Nil writes
	// {"code","message"} as JSON.
	Error func(w http.ResponseWriter, r *http.Request, status int, code, message string)
	// Path gives the path to match, decoded. Nil takes r.URL.Path.
	Path func(r *http.Request) string
}

type flagsKey struct{}

// Flagged returns the fault of a flag kind that the middleware found for this
// request.
func Flagged(ctx context.Context, k Kind) (Fault, bool) {
	met, _ := ctx.Value(flagsKey{}).([]Fault)
	for _, f := range met {
		if f.Kind == k {
			return f, true
		}
	}
	return Fault{}, false
}

// Met returns the IDs of the faults that met this request.
func Met(ctx context.Context) []string {
	met, _ := ctx.Value(flagsKey{}).([]Fault)
	var ids []string
	for _, f := range met {
		ids = append(ids, f.ID)
	}
	return ids
}

// Middleware applies the set's faults to a handler. The server must speak
// HTTP/1: connections are taken over to cut them.
func Middleware(o Options, next http.Handler) http.Handler {
	if o.Error == nil {
		o.Error = jsonError
	}
	if o.Path == nil {
		o.Path = func(r *http.Request) string { return r.URL.Path }
	}
	return &middleware{Options: o, next: next}
}

type middleware struct {
	Options
	next http.Handler
}

func (m *middleware) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	met := m.Set.Match(Request{m.Service, m.Instance, r.Method, m.Path(r)})
	if len(met) == 0 {
		m.next.ServeHTTP(w, r)
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), flagsKey{}, met))
	for _, f := range met {
		if f.Kind == Latency && !pause(r.Context(), f.wait()) {
			return
		}
	}
	i := slices.IndexFunc(met, func(f Fault) bool {
		c := m.Set.kinds[f.Kind].class
		return c == ending || c == network
	})
	if i < 0 {
		m.next.ServeHTTP(w, r)
		return
	}
	m.end(met[i], w, r)
}

// end answers a request in the way its fault demands.
func (m *middleware) end(f Fault, w http.ResponseWriter, r *http.Request) {
	switch f.Kind {
	case Status, Throttle:
		m.refuse(f, w, r)
	case Partition:
		cutConn(w, reset)
	case Stall:
		pause(r.Context(), f.wait())
		cutConn(w, closePlain)
	case LostAnswer:
		sink := newSink()
		m.next.ServeHTTP(sink, r)
		cutConn(w, reset)
	case Reset:
		m.reset(f, w, r)
	case Lie:
		m.lie(f, w, r)
	default:
		sw := &spoiler{ResponseWriter: w, fault: f, set: m.Set, ctx: r.Context()}
		m.next.ServeHTTP(sw, r)
		sw.finish()
	}
}

func (m *middleware) refuse(f Fault, w http.ResponseWriter, r *http.Request) {
	status, code, message := f.Status, f.Code, "the lab was told to refuse this request"
	if status == 0 {
		status = http.StatusServiceUnavailable
	}
	retry := f.RetryAfter
	if f.Kind == Throttle {
		retry = max(retry, 1)
		if code == "" {
			code, message = "ThrottledError", m.Service+" throttled this request"
		}
	}
	if code == "" {
		code = defaultCode(status)
	}
	if retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(retry))
	}
	m.Error(w, r, status, code, message)
}

func defaultCode(status int) string {
	switch status {
	case http.StatusInternalServerError:
		return "InternalError"
	case http.StatusServiceUnavailable:
		return "ServiceUnavailable"
	case http.StatusInsufficientStorage:
		return "NotEnoughSpace"
	}
	return "LabFault"
}

func (m *middleware) reset(f Fault, w http.ResponseWriter, r *http.Request) {
	if f.Side == "request" {
		r.Body = &cutBody{ReadCloser: r.Body, left: f.Bytes, cut: func() { cutConn(w, reset) }}
		m.next.ServeHTTP(&muted{ResponseWriter: w}, r)
		cutConn(w, reset)
		return
	}
	sw := &spoiler{ResponseWriter: w, fault: f, set: m.Set, ctx: r.Context()}
	m.next.ServeHTTP(sw, r)
	sw.finish()
}

// lie runs the handler twice: the MD5 of the wrong bytes goes into a header that
// is sent before them, and a body may be too large to keep.
func (m *middleware) lie(f Fault, w http.ResponseWriter, r *http.Request) {
	sink := newSink()
	sum := md5.New()
	probe := &spoiler{ResponseWriter: sink, fault: f, set: m.Set, ctx: r.Context()}
	sink.body = sum
	m.next.ServeHTTP(probe, r)
	probe.finish()
	sw := &spoiler{ResponseWriter: w, fault: f, set: m.Set, ctx: r.Context()}
	sw.md5 = base64.StdEncoding.EncodeToString(sum.Sum(nil))
	m.next.ServeHTTP(sw, r)
	sw.finish()
}

// pause waits and says whether the caller is still there.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// jsonError is the error body most of the field's services send.
func jsonError(w http.ResponseWriter, _ *http.Request, status int, code, message string) {
	b, err := json.Marshal(struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{code, message})
	if err != nil {
		http.Error(w, code, status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b) // the caller is gone then
}

// cutBody ends the request after so many bytes of its body, or at its end if that
// comes first, so that the handler never sees it whole.
type cutBody struct {
	io.ReadCloser
	left int64
	cut  func()
	done bool
}

var errCut = errors.New("connection cut by a fault of the lab")

func (b *cutBody) Read(p []byte) (int, error) {
	if b.done || b.left <= 0 {
		b.stop()
		return 0, errCut
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if err != nil {
		b.stop()
		return n, errCut
	}
	return n, nil
}

func (b *cutBody) stop() {
	if !b.done {
		b.done = true
		b.cut()
	}
}
