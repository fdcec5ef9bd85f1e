package imgapid

import (
	"fmt"
	"net/http"
)

// An apiError is an answer of the API that is not a success.
type apiError struct {
	status  int
	code    string // "" leaves the member out, as disk errors do
	message string
	fields  []fieldError
}

type fieldError struct{ field, code, message string }

func (e *apiError) Error() string { return e.message }

func (e *apiError) body() *object {
	o := newObject()
	if e.code != "" {
		o.set("code", e.code)
	}
	o.set("message", e.message)
	if e.fields != nil {
		list := make([]any, 0, len(e.fields))
		for _, f := range e.fields {
			fo := newObject()
			fo.set("field", f.field)
			fo.set("code", f.code)
			if f.message != "" {
				fo.set("message", f.message)
			}
			list = append(list, fo)
		}
		o.set("errors", list)
	}
	return o
}

// A crash is an uncaught exception: the process dies of it.
type crash struct{ reason string }

func (c *crash) Error() string { return "uncaught exception: " + c.reason }

func crashf(format string, args ...any) error { return &crash{fmt.Sprintf(format, args...)} }

// statusOf is the status of every error code the API declares. Some keep their
// "Error" suffix on the wire and some drop it.
var statusOf = map[string]int{
	"Upload": 400, "Download": 400, "NotImplemented": 400, "InvalidHeader": 400, "BadRequestError": 400,
	"UnauthorizedError": 401, "OperatorOnly": 403, "ResourceNotFound": 404, "ImageUuidAlreadyExists": 409,
	"InternalError": 500, "NotAvailable": 501,
	"StorageIsDown": 503, "StorageUnsupported": 503, "RemoteSourceError": 503, "ServiceUnavailableError": 503,
	"ValidationFailed": 422, "InvalidParameter": 422, "ImageFilesImmutable": 422, "ImageAlreadyActivated": 422,
	"NoActivationNoFile": 422, "NotImageOwner": 422, "OriginDoesNotExist": 422, "OriginIsNotActive": 422,
	"OwnerDoesNotExist": 422, "ImageHasDependentImages": 422, "ImageNotShared": 422, "AccountDoesNotExist": 422,
	"NotMantaPathOwner": 422, "InsufficientServerVersion": 422,
	"InvalidArgument": 409, "MissingParameter": 409, "PreconditionFailed": 412, "InvalidContent": 400,
}

func errCode(code, format string, args ...any) *apiError {
	return &apiError{status: statusOf[code], code: code, message: fmt.Sprintf(format, args...)}
}

func errField(code, field, fieldCode, format string, args ...any) *apiError {
	e := errCode(code, format, args...)
	e.fields = []fieldError{{field: field, code: fieldCode}}
	return e
}

func errNotFound(uuid string) *apiError {
	return errCode("ResourceNotFound", "image %s not found", uuid)
}

// errDisk is what a failed system call looks like on the wire: no code, and the
// local path in the message.
func errDisk(err error) *apiError {
	return &apiError{status: http.StatusInternalServerError, message: nodeError(err)}
}

// sampleErrors are the bodies GET /ping?error=NAME answers with.
func sampleError(name string) *apiError {
	switch name {
	case "ValidationFailed":
		e := errCode(name, "boom")
		e.fields = []fieldError{}
		return e
	case "InvalidParameter":
		return errField(name, "foo", "Invalid", `invalid "foo"`)
	case "ImageFilesImmutable":
		return errCode(name, "cannot modify files on activated image 82ce32a2-9cb4-9a4c-a303-7a63254bacf4")
	case "ImageAlreadyActivated":
		return errCode(name, `image "ed8cd007-2065-0140-8d41-e32247b71748" is already activated`)
	case "Internal":
		return errCode("InternalError", "boom")
	case "StorageIsDown":
		return errCode(name, "storage is down at the moment")
	case "StorageUnsupported":
		return errCode(name, "storage type is unsupported")
	}
	for _, code := range []string{name, name + "Error"} {
		if _, ok := statusOf[code]; ok && code != "InvalidArgument" && code != "MissingParameter" && code != "PreconditionFailed" && code != "InvalidContent" {
			return errCode("InternalError", `do not have a sample "%sError" error`, name)
		}
	}
	return errField("InvalidParameter", "error", "Missing", "unknown error: %sError", name)
}
