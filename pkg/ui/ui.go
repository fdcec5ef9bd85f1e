// Package ui is the operator's end of tritonops: where text goes, what the
// terminal can do, and how tables, JSON, questions and progress look.
//
// The rules are written once, here:
//
//   - stdout carries the answer and nothing else; questions, progress and notes
//     go to stderr.
//   - Text that came from a server or a file is never sent raw: control
//     characters, escape sequences and direction overrides are made visible
//     ([Clean], [CleanText]; tables and JSON do it by themselves).
//   - Registered secrets and things that look like one are cut out of
//     everything written to stderr ([Redactor]).
//   - Without a terminal nothing asks, nothing draws and nothing is coloured.
//
// The package reads no environment: NO_COLOR and TERM arrive as values.
package ui

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/term"
)

// ErrOutputClosed is what writing the answer returns once its reader has gone,
// as in `tritonops runs list | head -1`. Nothing is wrong then.
var ErrOutputClosed = errors.New("standard output: closed by its reader")

// Config describes the streams of one command.
type Config struct {
	In       io.Reader
	Out, Err io.Writer
	Term     string // the value of TERM; "dumb" means no colour and plain prompts
}

// Settings are what the command line says about appearance.
type Settings struct {
	NoColor bool          // --no-color or NO_COLOR
	Quiet   bool          // -q: no notes, no progress
	Verbose bool          // -v
	Every   time.Duration // between progress lines off a terminal; 0 = 5 s
}

// UI is the streams of one command with what is known about them.
type UI struct {
	InTTY, OutTTY, ErrTTY bool
	Redactor              *Redactor

	set  Settings
	term string
	in   io.Reader
	out  io.Writer
	raw  io.Writer // stderr without redaction: prompts and bars
	err  io.Writer
}

// New looks at the streams and returns a UI with default settings.
func New(c Config) *UI {
	u := &UI{
		InTTY: isTTY(c.In), OutTTY: isTTY(c.Out), ErrTTY: isTTY(c.Err),
		Redactor: NewRedactor(),
		term:     c.Term, in: c.In, out: outWriter{c.Out}, raw: c.Err,
	}
	u.err = u.Redactor.Writer(c.Err)
	return u
}

// Set applies what the command line says. Call it before anything is written.
func (u *UI) Set(s Settings) { u.set = s }

// In is standard input.
func (u *UI) In() io.Reader { return u.in }

// Out is standard output: the answer. Writing to it returns [ErrOutputClosed]
// once the reader has gone.
func (u *UI) Out() io.Writer { return u.out }

// Err is standard error, with secrets cut out of every single Write.
func (u *UI) Err() io.Writer { return u.err }

// Quiet says whether -q was given.
func (u *UI) Quiet() bool { return u.set.Quiet }

// Verbose says whether -v was given.
func (u *UI) Verbose() bool { return u.set.Verbose }

// CanPrompt says whether a question can be asked: both ends of the
// conversation, stdin and stderr, are a terminal.
func (u *UI) CanPrompt() bool { return u.InTTY && u.ErrTTY }

// Width returns the terminal's width in columns, 0 when there is no terminal to
// fit into. Stdout decides; where it is piped, stderr.
func (u *UI) Width() int {
	for _, w := range []io.Writer{u.out, u.raw} {
		if o, ok := w.(outWriter); ok {
			w = o.w
		}
		if f, ok := w.(*os.File); ok {
			if cols, _, err := term.GetSize(int(f.Fd())); err == nil && cols > 0 {
				return cols
			}
		}
	}
	return 0
}

// Say writes one line to stderr unless -q was given. Use it for what an
// operator likes to know and a script does not need.
func (u *UI) Say(format string, args ...any) {
	if !u.set.Quiet {
		u.Warn(format, args...)
	}
}

// Detail writes one line to stderr if -v was given: retries, requests.
func (u *UI) Detail(format string, args ...any) {
	if u.set.Verbose {
		u.Warn(format, args...)
	}
}

// Warn writes one line to stderr, also with -q.
func (u *UI) Warn(format string, args ...any) {
	fmt.Fprintln(u.err, CleanText(fmt.Sprintf(format, args...)))
}

// Printf writes text to stdout, control characters made visible.
func (u *UI) Printf(format string, args ...any) error {
	_, err := io.WriteString(u.out, CleanText(fmt.Sprintf(format, args...)))
	return err
}

// OutPaint colours text for stdout, ErrPaint for stderr.
func (u *UI) OutPaint() Paint { return Paint{u.colour(u.OutTTY)} }

// ErrPaint colours text for stderr.
func (u *UI) ErrPaint() Paint { return Paint{u.colour(u.ErrTTY)} }

func (u *UI) colour(tty bool) bool { return tty && !u.set.NoColor && u.term != "dumb" }

// isTTY says whether a stream is a terminal.
func isTTY(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && f != nil && term.IsTerminal(int(f.Fd()))
}

// outWriter tells a reader that went away from every other broken pipe.
type outWriter struct{ w io.Writer }

func (o outWriter) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		err = ErrOutputClosed
	}
	return n, err
}
