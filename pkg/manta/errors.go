package manta

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/tritonops/tritonops/pkg/fail"
)

// The kinds of error callers decide on, for errors.Is.
var (
	ErrNotFound      = errors.New("not found")                // 404
	ErrParentMissing = errors.New("parent directory missing") // a 404 that says so; ErrNotFound too
	ErrPrecondition  = errors.New("condition not met")        // 412, or 409 ConcurrentRequest: lost a race
	ErrAuth          = errors.New("not authorised")           // 401 or 403
	ErrThrottled     = errors.New("throttled")                // 429 or ThrottledError; ErrUnavailable too
	ErrUnavailable   = errors.New("unavailable")              // no answer, or 5xx
	// ErrUnknownOutcome is a conditional request that may or may not have been
	// applied: its answer was lost, or was a 5xx after the content had been sent.
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrChecksum is content that does not have the MD5 it should, or one whose
	// MD5 could not be learned. After a Put the service holds that wrong object.
	ErrChecksum = errors.New("checksum does not match")
	// ErrSource is a Put whose source failed or did not have its stated length.
	// Nothing was stored.
	ErrSource = errors.New("content could not be read as announced")
	// ErrListing is a listing that breaks the service's rules: unsorted, endless,
	// malformed, or with fewer entries than it says there are.
	ErrListing = errors.New("listing is not usable")
	// ErrNotDirectory is an object where a directory should be: listed, to be made,
	// or above what was to be written. It was left alone.
	ErrNotDirectory = errors.New("not a directory")
)

// Error is the failure of one operation on one path.
type Error struct {
	Op        string // "put", "get", "head", "delete", "mkdir", "list"
	Path      string
	Status    int    // HTTP status, 0 if there was no usable answer
	Code      string // the service's name for the error, such as "DirectoryDoesNotExist"; may be empty
	Message   string // the service's text, bounded and printable; may be empty
	RequestID string // x-request-id of the answer, for the service's logs

	cause   error // transport, source or verification error; nil for a plain answer
	kind    error // a sentinel beyond what the status says
	unknown bool  // conditional and perhaps applied

	unsent     bool          // no answer, and the request or its content never left whole
	flap       bool          // HEAD refused, GET accepted: the key is known in places
	retryAfter time.Duration // what the service asked for, 0 if nothing
}

// Error returns "path: op: what happened (request id)".
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: ", e.Path, e.Op)
	if e.unknown {
		b.WriteString("outcome unknown: ")
	}
	if e.Status >= 300 {
		fmt.Fprintf(&b, "%d %s", e.Status, e.name())
		if e.Message != "" {
			b.WriteString(": " + e.Message)
		}
	}
	if e.cause != nil {
		if e.Status >= 300 {
			b.WriteString(": ")
		}
		b.WriteString(e.cause.Error())
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, " (request %s)", e.RequestID)
	}
	return b.String()
}

func (e *Error) name() string {
	if e.Code != "" {
		return e.Code
	}
	return http.StatusText(e.Status)
}

// Unwrap returns the cause, nil for an ordinary error answer.
func (e *Error) Unwrap() error { return e.cause }

// Is places e under the sentinels of this package.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Status == http.StatusNotFound
	case ErrParentMissing:
		return e.Status == http.StatusNotFound && e.hasCode("DirectoryDoesNotExist")
	case ErrPrecondition:
		return e.Status == http.StatusPreconditionFailed || e.Status == http.StatusConflict && e.hasCode("ConcurrentRequest")
	case ErrAuth:
		return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
	case ErrThrottled:
		return e.Status == http.StatusTooManyRequests || e.hasCode("Throttled")
	case ErrUnavailable:
		return e.Status >= 500 || e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout || e.kind == ErrUnavailable
	case ErrNotDirectory:
		return e.Status == http.StatusBadRequest && e.hasCode("ParentNotDirectory") || e.kind == ErrNotDirectory
	case ErrUnknownOutcome:
		return e.unknown
	}
	return e.kind != nil && e.kind == target
}

// hasCode compares the service's code; some come with "Error" at the end.
func (e *Error) hasCode(code string) bool { return strings.TrimSuffix(e.Code, "Error") == code }

// keyUnknown says whether e is a key that the front end does not know, which
// passes within minutes of the key being added.
func (e *Error) keyUnknown() bool {
	return e.Status == http.StatusForbidden && (e.flap || e.hasCode("KeyDoesNotExist") || e.hasCode("InvalidSignature"))
}

// coded attaches the exit code where it is certain.
func coded(e *Error) error {
	if errors.Is(e, ErrAuth) || errors.Is(e, ErrUnavailable) && !e.unknown {
		return fail.As(fail.Unreachable, e)
	}
	return e
}

const (
	maxErrorBody = 64 << 10
	maxMessage   = 400 // bytes kept of the service's text
)

// answerError reads an error answer. Anything but JSON of the known form, such as
// a proxy's HTML, leaves the status alone to speak.
func answerError(op, path string, resp *http.Response) *Error {
	e := &Error{Op: op, Path: path, Status: resp.StatusCode, RequestID: printable(resp.Header.Get("X-Request-Id"), 64)}
	if resp.Request != nil && resp.Request.Method == http.MethodHead {
		return e
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // a cut error body is still an error
	e.Code, e.Message = decodeError(body)
	return e
}

// decodeError returns the code and message of an error body, or empty strings.
func decodeError(body []byte) (code, message string) {
	var v struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &v) != nil {
		return "", ""
	}
	notWord := func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) }
	if len(v.Code) > 64 || strings.ContainsFunc(v.Code, notWord) {
		v.Code = ""
	}
	return v.Code, printable(withoutSignature(v.Message), maxMessage)
}

// withoutSignature masks a signature that an answer echoes: with its date it
// would be good for anyone for five minutes.
func withoutSignature(s string) string {
	if !strings.Contains(s, "=") {
		return s
	}
	return regexp.MustCompile(`(?i)(signature\s*=\s*)["']?[A-Za-z0-9+/=_-]+["']?`).ReplaceAllString(s, "${1}[redacted]")
}

// printable bounds a text from outside and takes control characters out of it.
func printable(s string, limit int) string {
	cut := len(s) > limit
	if cut {
		s = s[:limit]
	}
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if s = strings.TrimSpace(s); cut {
		s += "..."
	}
	return s
}

// ended returns why ctx ended, in a form errors.Is recognises.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if err == nil || cause == err {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}
