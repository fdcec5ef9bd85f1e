package mantastore

import (
	"errors"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/manta"
)

// portError is an error of the Manta client under the sentinels of the port. The
// text is the client's, which names path, status and code; errors.As still finds
// the *manta.Error.
type portError struct {
	err   error
	kinds []error
}

func (e *portError) Error() string   { return e.err.Error() }
func (e *portError) Unwrap() []error { return append([]error{e.err}, e.kinds...) }

// wrap sorts an error of the client. conditional says whether the request had a
// condition.
func wrap(err error, conditional bool) error {
	if err == nil {
		return nil
	}
	if kinds := classify(err, conditional); kinds != nil {
		return &portError{err, kinds}
	}
	return err
}

// classify returns the sentinels for an error, the most telling first: an unknown
// outcome may also look like an unreachable store, and must not be taken for one.
func classify(err error, conditional bool) []error {
	switch {
	case errors.Is(err, manta.ErrUnknownOutcome):
		return []error{store.ErrUnknownOutcome}
	case errors.Is(err, manta.ErrChecksum) && conditional:
		// The condition held and something was stored, but not what was sent.
		return []error{store.ErrCorrupt, store.ErrUnknownOutcome}
	case errors.Is(err, manta.ErrChecksum):
		return []error{store.ErrCorrupt}
	case errors.Is(err, manta.ErrPrecondition):
		return []error{store.ErrCondition}
	case errors.Is(err, manta.ErrNotFound):
		return []error{store.ErrNotFound}
	case errors.Is(err, manta.ErrAuth), errors.Is(err, manta.ErrUnavailable):
		return []error{store.ErrUnavailable}
	case errors.Is(err, manta.ErrBadPath):
		return []error{store.ErrBadKey}
	}
	return nil
}
