package mantad

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
)

// apiError is an error answer of the service.
type apiError struct {
	status  int
	code    string
	message string
	header  map[string]string // extra headers
	bare    bool              // no body at all: 304
}

// Error returns code and message.
func (e *apiError) Error() string { return e.code + ": " + e.message }

func fault(status int, code, format string, args ...any) *apiError {
	return &apiError{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

func errInvalidHeader(format string, args ...any) *apiError {
	return fault(http.StatusBadRequest, "InvalidHeader", format, args...)
}

func errNotAllowed(who, path string) *apiError {
	return fault(http.StatusForbidden, "AuthorizationFailed", "%s is not allowed to access %s", who, path)
}

func errNotFound(path string) *apiError {
	return fault(http.StatusNotFound, "ResourceNotFound", "%s was not found", path)
}

func errInternal() *apiError {
	return fault(http.StatusInternalServerError, "InternalError", "an unexpected error occurred")
}

func errInvalidPath(path string) *apiError {
	return fault(http.StatusBadRequest, "InvalidResource", "%q is invalid", path)
}

func errConcurrent(path string) *apiError {
	return fault(http.StatusConflict, "ConcurrentRequest", "%s was being concurrently updated", path)
}

func errPrecondition(format string, args ...any) *apiError {
	return fault(http.StatusPreconditionFailed, "PreconditionFailed", format, args...)
}

func errRoot(method, path string) *apiError {
	return fault(http.StatusBadRequest, "OperationNotAllowedOnRootDirectory", "%s is not allowed on %s", method, path)
}

func errNoSpace(size int64) *apiError {
	const mb = 1 << 20
	return fault(http.StatusInsufficientStorage, "NotEnoughSpace", "not enough free space for %d MB", (size+mb-1)/mb)
}

// write sends the error as the service does: JSON with its MD5, or for HEAD the
// status alone.
func (e *apiError) write(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	for k, v := range e.header {
		h.Set(k, v)
	}
	if e.bare || r.Method == http.MethodHead {
		w.WriteHeader(e.status)
		return
	}
	b := append([]byte(`{"code":`), appendJSON(nil, e.code)...)
	b = append(append(b, `,"message":`...), appendJSON(nil, e.message)...)
	b = append(b, '}')
	sum := md5.Sum(b)
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	h.Set("Content-Md5", base64.StdEncoding.EncodeToString(sum[:]))
	w.WriteHeader(e.status)
	_, _ = w.Write(b) // the client is gone then
}
