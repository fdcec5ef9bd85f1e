package filestore

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/tritonops/tritonops/pkg/durable"
)

// tempGrace is how long a temporary file is left alone whatever its lock says:
// its writer needs a moment between making and locking it.
const tempGrace = time.Minute

// holdTemp marks a temporary file as being written.
func holdTemp(f *os.File) error {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("lock of a file being written: %w", err)
	}
	return nil
}

// sweep removes the temporary files in dir that nobody writes any more.
func sweep(dir *os.Root) error {
	names, err := readNames(dir)
	for _, name := range names {
		if strings.HasPrefix(name, durable.TempPrefix) {
			sweepOne(dir, name)
		}
	}
	return err
}

// sweepOne removes one temporary file if its writer is dead. It is only
// housekeeping: what cannot be removed stays.
func sweepOne(dir *os.Root, name string) {
	f, fi, err := openFile(dir, name, os.O_RDWR)
	if err != nil {
		return
	}
	defer f.Close()
	if time.Since(fi.ModTime()).Abs() < tempGrace {
		return
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		dir.Remove(name)
	}
}
