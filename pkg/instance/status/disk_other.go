//go:build !linux && !solaris && !illumos

package status

import "errors"

// StatDisk is not known for this system.
func StatDisk(string) (Usage, error) { return Usage{}, errors.ErrUnsupported }
