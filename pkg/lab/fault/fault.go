package fault

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
)

// Kind is what goes wrong.
type Kind string

// The kinds every service knows.
const (
	Latency    Kind = "latency"     // Delay before the request is handled
	Status     Kind = "status"      // Status and Code instead of an answer; default 503 ServiceUnavailable
	Throttle   Kind = "throttle"    // 503 ThrottledError with Retry-After
	Reset      Kind = "reset"       // TCP RST after Bytes of the response, or of the request with Side "request"
	Truncate   Kind = "truncate"    // 200 with the right Content-Length, body cut after Bytes, connection closed
	Short      Kind = "short"       // 200 with a Content-Length of Bytes and just these bytes: a shorter body that looks whole
	Corrupt    Kind = "corrupt"     // wrong bytes, right length, headers of the original
	Lie        Kind = "lie"         // wrong bytes, right length, Content-MD5 of the wrong bytes
	LostAnswer Kind = "lost-answer" // the write is applied, then the connection is reset
	Stall      Kind = "stall"       // no answer at all for Delay (default one minute), then the connection closes
	Hang       Kind = "hang"        // Bytes of the body, then nothing for Delay, then the connection closes
	Partition  Kind = "partition"   // connections are reset at once, open ones included
	DiskFull   Kind = "disk-full"   // flag: the service's disk is full
)

// Kinds only the Manta stand-in acts on.
const (
	KeyNotPropagated Kind = "key-not-propagated" // flag: this front end does not know the key yet
	EndlessListing   Kind = "endless-listing"    // flag: a directory listing that never ends
	RepeatListing    Kind = "repeat-listing"     // flag: the marker is ignored, the first page comes again for ever
	NoContentMD5     Kind = "no-content-md5"     // flag: listings without contentMD5, as old front ends
)

// class tells how a kind is applied.
type class int

const (
	delaying class = iota // applies next to others
	ending                // decides the answer; one per request
	flag                  // left to the service
	network               // connection level
)

type kindInfo struct {
	class   class
	methods []string // methods met when the fault names none; nil means all
	help    string
}

var writes = []string{http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodPatch}
var reads = []string{http.MethodGet}

func builtin() map[Kind]kindInfo {
	return map[Kind]kindInfo{
		Latency:          {delaying, nil, "answers late, by delay"},
		Status:           {ending, nil, "answers with status and code (default 503 ServiceUnavailable)"},
		Throttle:         {ending, nil, "answers 503 ThrottledError with Retry-After"},
		Reset:            {ending, nil, "resets the connection after bytes of the response (side request: of the request)"},
		Truncate:         {ending, reads, "cuts the body after bytes (default half) and closes; the length header is right"},
		Short:            {ending, reads, "sends bytes (default half) of the body with a length header to match"},
		Corrupt:          {ending, reads, "sends wrong bytes with the right length and the original's MD5"},
		Lie:              {ending, reads, "sends wrong bytes with the right length and the MD5 of the wrong bytes"},
		LostAnswer:       {ending, writes, "applies the write, then resets the connection instead of answering"},
		Stall:            {ending, nil, "does not answer for delay (default 1m), then closes the connection"},
		Hang:             {ending, reads, "sends bytes (default half) of the body, then nothing for delay (default 1m)"},
		Partition:        {network, nil, "resets every connection"},
		DiskFull:         {flag, writes, "says that its disk is full"},
		KeyNotPropagated: {flag, nil, "does not know the caller's key yet (403)"},
		EndlessListing:   {flag, reads, "lists a directory without end"},
		RepeatListing:    {flag, reads, "sends the first page of a listing again and again"},
		NoContentMD5:     {flag, reads, "lists objects without contentMD5, as old front ends"},
	}
}

// Duration is a time.Duration written as "250ms" in JSON.
type Duration time.Duration

// MarshalJSON writes the duration as Go's notation.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads Go's notation; a bare number is refused because its unit
// would be a guess.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("duration %s: want a string with a unit, as \"250ms\"", b)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("duration %q: want a number with a unit, as \"250ms\"", s)
	}
	*d = Duration(v)
	return nil
}

// Fault is one thing that goes wrong. The zero value of every field but Kind
// means "any" or the kind's default.
type Fault struct {
	ID       string `json:"id"`                 // unique in a set; given by Add when empty
	Service  string `json:"service,omitempty"`  // "manta", "imgapi" ...; empty: every service
	Instance string `json:"instance,omitempty"` // name of one instance of the service
	Kind     Kind   `json:"kind"`
	Method   string `json:"method,omitempty"` // "PUT" or "PUT,DELETE"
	Path     string `json:"path,omitempty"`   // glob on the decoded path: "*" within a segment, "**" across

	Skip        int     `json:"skip,omitempty"`        // matching requests to let pass first
	Count       int     `json:"count,omitempty"`       // requests to meet; 0: until removed
	Probability float64 `json:"probability,omitempty"` // of meeting a matching request; 0 means always
	Seed        uint64  `json:"seed,omitempty"`        // own dice; 0: from the set's seed and the ID

	For        Duration `json:"for,omitempty"`         // how long after adding; 0: until removed
	Delay      Duration `json:"delay,omitempty"`       // latency, stall, hang
	Status     int      `json:"status,omitempty"`      // status, throttle
	Code       string   `json:"code,omitempty"`        // error code of status
	RetryAfter int      `json:"retry_after,omitempty"` // seconds, status and throttle
	Bytes      int64    `json:"bytes,omitempty"`       // see Kind; 0: the kind's default
	Side       string   `json:"side,omitempty"`        // reset: "request" or "response" (default)
}

// MaxDelay bounds every delay: a stand-in that hangs for good hangs its tests.
const MaxDelay = 10 * time.Minute

const defaultHang = time.Minute

func (f Fault) wait() time.Duration {
	if f.Delay == 0 && f.Kind != Latency {
		return defaultHang
	}
	return time.Duration(f.Delay)
}

// validate checks f against the kinds a set knows.
func (f Fault) validate(kinds map[Kind]kindInfo) error {
	if f.Kind == "" {
		return errors.New("fault: no kind")
	}
	if _, ok := kinds[f.Kind]; !ok {
		return fmt.Errorf("fault: unknown kind %q; known: %s", f.Kind, strings.Join(kindNames(kinds), ", "))
	}
	bad := func(field string, format string, args ...any) error {
		return fmt.Errorf("fault %s: %s: %s", f.Kind, field, fmt.Sprintf(format, args...))
	}
	switch {
	case f.Skip < 0:
		return bad("skip", "%d is negative", f.Skip)
	case f.Count < 0:
		return bad("count", "%d is negative", f.Count)
	case !(f.Probability >= 0 && f.Probability <= 1):
		return bad("probability", "%v is not between 0 and 1", f.Probability)
	case f.Bytes < 0:
		return bad("bytes", "%d is negative", f.Bytes)
	case f.RetryAfter < 0:
		return bad("retry_after", "%d is negative", f.RetryAfter)
	case f.For < 0:
		return bad("for", "%s is negative", time.Duration(f.For))
	case f.Delay < 0 || time.Duration(f.Delay) > MaxDelay:
		return bad("delay", "%s is not between 0 and %s", time.Duration(f.Delay), MaxDelay)
	case f.Kind == Latency && f.Delay == 0:
		return bad("delay", "missing")
	case f.Status != 0 && (f.Status < 400 || f.Status > 599):
		return bad("status", "%d is not an error status (400 to 599)", f.Status)
	case f.Side != "" && f.Side != "request" && f.Side != "response":
		return bad("side", "%q is neither request nor response", f.Side)
	case f.Side != "" && f.Kind != Reset:
		return bad("side", "belongs to reset only")
	}
	for _, m := range f.methods() {
		if m == "" || strings.ToUpper(m) != m {
			return bad("method", "%q is not an HTTP method in capitals", f.Method)
		}
	}
	return f.validatePath()
}

func (f Fault) validatePath() error {
	for _, part := range strings.Split(f.Path, "/") {
		if _, err := path.Match(part, ""); err != nil {
			return fmt.Errorf("fault %s: path: %q is not a valid pattern", f.Kind, f.Path)
		}
	}
	return nil
}

func (f Fault) methods() []string {
	if f.Method == "" {
		return nil
	}
	return strings.Split(f.Method, ",")
}

// matches says whether f concerns the request, counts and dice aside.
func (f Fault) matches(r Request, info kindInfo) bool {
	if f.Service != "" && f.Service != r.Service || f.Instance != "" && f.Instance != r.Instance {
		return false
	}
	methods := f.methods()
	if methods == nil {
		methods = info.methods
	}
	if methods != nil && !slices.Contains(methods, r.Method) {
		return false
	}
	return f.Path == "" || Glob(f.Path, r.Path)
}

// Glob says whether a slash-separated path matches a pattern in which "**"
// stands for any number of whole segments, also none, and every other segment is
// as in path.Match.
func Glob(pattern, name string) bool {
	return globParts(strings.Split(pattern, "/"), strings.Split(name, "/"))
}

func globParts(pat, name []string) bool {
	// Greedy with one point of return, so that no pattern takes more than
	// quadratic time.
	star, mark := -1, 0
	i, j := 0, 0
	for j < len(name) {
		switch {
		case i < len(pat) && pat[i] == "**":
			star, mark = i, j
			i++
			continue
		case i < len(pat):
			if ok, err := path.Match(pat[i], name[j]); err == nil && ok {
				i++
				j++
				continue
			}
		}
		if star < 0 {
			return false
		}
		mark++
		i, j = star+1, mark
	}
	for i < len(pat) && pat[i] == "**" {
		i++
	}
	return i == len(pat)
}

func kindNames(kinds map[Kind]kindInfo) []string {
	names := make([]string, 0, len(kinds))
	for k := range kinds {
		names = append(names, string(k))
	}
	slices.Sort(names)
	return names
}
