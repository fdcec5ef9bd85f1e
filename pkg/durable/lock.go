package durable

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// Holder says who holds a lock. It is written into the lock file for the error
// text of whoever comes second; the lock itself is the kernel's.
type Holder struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

// HeldError is returned by [Acquire] when another process has the lock. Holder
// is zero when the file could not be read.
type HeldError struct {
	Path   string
	Holder Holder
}

// Error names the holder.
func (e *HeldError) Error() string {
	if e.Holder.PID == 0 {
		return fmt.Sprintf("%s: held by another process", e.Path)
	}
	return fmt.Sprintf("%s: held by %s (pid %d) since %s", e.Path, e.Holder.Command, e.Holder.PID, e.Holder.Since.UTC().Format(time.RFC3339))
}

// Lock is an exclusive advisory lock on a file. The kernel drops it when the
// process ends, however it ends. The file stays.
type Lock struct{ f *os.File }

// Acquire takes the lock at path without waiting. command is what the second
// comer is told is running. When another process has it: [*HeldError].
func Acquire(path, command string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			held := &HeldError{Path: path}
			if b, err := os.ReadFile(path); err == nil {
				_ = json.Unmarshal(b, &held.Holder) // a torn note only makes the text poorer
			}
			return nil, held
		}
		return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	b, err := json.Marshal(Holder{PID: os.Getpid(), Command: command, Since: time.Now().UTC()})
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Lock{f: f}, nil
}

// Release gives the lock up.
func (l *Lock) Release() error { return l.f.Close() }
