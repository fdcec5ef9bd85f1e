// Package fail gives every error of tritonops an exit code and, where there is
// one, the command to run next.
//
// A library returns ordinary errors wrapped with %w. Where it knows what the
// outcome means to an operator or a script, it attaches a [Code] with [New] or
// [As], and a hint with [Hint]. Only the commands package turns an error into
// text and an exit status; nothing here prints or exits.
//
// Error texts have the shape "object: what happened: cause": lower case, no
// final period, never a secret.
package fail

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Code is a process exit status. The numbers are part of the command line's
// contract and never change.
type Code int

// The exit codes, as every command's help lists them.
const (
	OK          Code = 0   // done, or nothing to do
	Failed      Code = 1   // failed, state as before
	Usage       Code = 2   // wrong words on the command line
	Faults      Code = 3   // a check ran and found faults
	Refused     Code = 4   // precondition, declined, or confirmation needed and no TTY; nothing changed
	Midway      Code = 5   // stopped midway, resumable
	Stuck       Code = 6   // stuck, needs a human
	Held        Code = 7   // held by someone else
	Unreachable Code = 8   // unreachable or not authorised
	Interrupted Code = 130 // interrupted with nothing begun
)

// Row is one line of the exit code table.
type Row struct {
	Code    Code   `json:"code"`
	Meaning string `json:"meaning"`
}

// Table lists the exit codes in order, for help texts and documentation.
func Table() []Row {
	return []Row{
		{OK, "done, or nothing to do"},
		{Failed, "failed, state as before"},
		{Usage, "usage: wrong words on the command line"},
		{Faults, "a check ran and found faults"},
		{Refused, "refused: precondition, declined, or confirmation needed and no terminal; nothing changed"},
		{Midway, "stopped midway, resumable"},
		{Stuck, "stuck, needs a human"},
		{Held, "held by someone else"},
		{Unreachable, "unreachable or not authorised"},
		{Interrupted, "interrupted with nothing begun"},
	}
}

// Error is an error with an exit code and hints. Build it with [New], [As],
// [Hint] or [Silent].
type Error struct {
	code   Code
	chosen bool // code was chosen; otherwise it is the wrapped error's
	msg    string
	hints  []string
	silent bool
	err    error
}

// New returns an error with an exit code. The format takes %w.
func New(code Code, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{code: code, chosen: true, msg: err.Error(), err: errors.Unwrap(err)}
}

// As gives err an exit code and keeps its text. A nil err stays nil.
func As(code Code, err error) error {
	if err == nil {
		return nil
	}
	return &Error{code: code, chosen: true, msg: err.Error(), err: err}
}

// Hint attaches a next step, usually a command that can be pasted. Hints add up
// through wrapping, the innermost first. A nil err stays nil.
func Hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{msg: err.Error(), hints: []string{fmt.Sprintf(format, args...)}, err: err}
}

// Silent ends a command with a code and without an error line: a check that has
// already printed its faults.
func Silent(code Code) error {
	return &Error{code: code, chosen: true, msg: fmt.Sprintf("exit %d", code), silent: true}
}

// Error returns the text without hints.
func (e *Error) Error() string { return e.msg }

// Unwrap returns the wrapped error.
func (e *Error) Unwrap() error { return e.err }

// CodeOf returns the exit code of err: the outermost one chosen, 130 for a
// cancelled context that nobody classified, 1 for any other error, 0 for nil.
func CodeOf(err error) Code {
	if err == nil {
		return OK
	}
	for e := err; ; {
		var fe *Error
		if !errors.As(e, &fe) {
			break
		}
		if fe.chosen {
			return fe.code
		}
		if fe.err == nil {
			break
		}
		e = fe.err
	}
	if errors.Is(err, context.Canceled) {
		return Interrupted
	}
	return Failed
}

// Text is the text of err for people: the runtime's words for a cancelled or
// timed out context become plain ones.
func Text(err error) string {
	return strings.NewReplacer(
		"interrupted: "+context.Canceled.Error(), "interrupted",
		context.Canceled.Error(), "interrupted",
		context.DeadlineExceeded.Error(), "timed out",
	).Replace(err.Error())
}

// Hints returns the hints of err, the innermost first.
func Hints(err error) []string {
	var fe *Error
	if err == nil || !errors.As(err, &fe) {
		return nil
	}
	if fe.err == nil {
		return fe.hints
	}
	return append(Hints(fe.err), fe.hints...)
}

// IsSilent says whether err asks for an exit code only.
func IsSilent(err error) bool {
	var fe *Error
	return errors.As(err, &fe) && fe.silent
}
