package ui

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/tritonops/tritonops/pkg/fail"
	"golang.org/x/term"
)

// operator sits at the other end of a pty: it answers the cursor query that
// survey makes, and types when a text has appeared.
type operator struct {
	pt  *os.File
	mu  sync.Mutex
	saw bytes.Buffer
}

// openTTY returns an operator and the tty he sits at.
func openTTY(t *testing.T) (*operator, tty) {
	t.Helper()
	pt, tt, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(pt, &pty.Winsize{Rows: 40, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	o := &operator{pt: pt}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := pt.Read(buf)
			if err != nil {
				return
			}
			o.mu.Lock()
			o.saw.Write(buf[:n])
			o.mu.Unlock()
			for range bytes.Count(buf[:n], []byte("\x1b[6n")) {
				io.WriteString(pt, "\x1b[1;1R")
			}
		}
	}()
	t.Cleanup(func() { tt.Close(); pt.Close(); <-done })
	return o, tty{in: tt, out: tt}
}

func (o *operator) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.saw.String()
}

// types waits for a text on the screen and then types.
func (o *operator) types(t *testing.T, after, keys string) {
	t.Helper()
	for range 500 {
		if strings.Contains(o.text(), after) {
			time.Sleep(20 * time.Millisecond) // survey shows first and switches the terminal then
			io.WriteString(o.pt, keys)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("never saw %q, only %q", after, o.text())
}

// kinds are the implementations that build on this system; the survey one adds
// itself in its own test file.
func kinds() map[string]func(tty) asker {
	m := map[string]func(tty) asker{"plain": newPlain}
	addSurvey(m)
	return m
}

// each runs a test with every implementation.
func each(t *testing.T, f func(t *testing.T, o *operator, p prompts)) {
	for name, make := range kinds() {
		t.Run(name, func(t *testing.T) {
			o, tt := openTTY(t)
			f(t, o, prompts{asker: make(tt), tty: tt, red: NewRedactor()})
		})
	}
}

func TestConfirmTakesYesNoAndTheDefault(t *testing.T) {
	for _, tc := range []struct {
		keys, def string
		want      bool
	}{{"y\r", "", true}, {"n\r", "yes", false}, {"\r", "", false}, {"\r", "yes", true}} {
		each(t, func(t *testing.T, o *operator, p prompts) {
			go o.types(t, "really?", tc.keys)
			got, err := p.Confirm(t.Context(), Question{Text: "really?", Default: tc.def})
			if err != nil || got != tc.want {
				t.Errorf("keys %q default %q: %v, %v", tc.keys, tc.def, got, err)
			}
		})
	}
}

func TestConfirmAsksAgainAfterAnythingElse(t *testing.T) {
	each(t, func(t *testing.T, o *operator, p prompts) {
		go func() {
			o.types(t, "really?", "maybe\r")
			time.Sleep(100 * time.Millisecond)
			io.WriteString(o.pt, "yes\r")
		}()
		if got, err := p.Confirm(t.Context(), Question{Text: "really?"}); err != nil || !got {
			t.Errorf("%v, %v", got, err)
		}
	})
}

func TestTypeNameWantsTheWholeName(t *testing.T) {
	for keys, want := range map[string]bool{"images\r": true, "image\r": false, "y\r": false, "\r": false} {
		each(t, func(t *testing.T, o *operator, p prompts) {
			go o.types(t, "go on:", keys)
			got, err := p.TypeName(t.Context(), Question{Text: "Retire?"}, "images")
			if err != nil || got != want {
				t.Errorf("keys %q: %v, %v", keys, got, err)
			}
		})
	}
}

func TestInputTrimsAndFallsBackToTheDefault(t *testing.T) {
	for keys, want := range map[string]string{"  hn1 \r": "hn1", "\r": "dc1"} {
		each(t, func(t *testing.T, o *operator, p prompts) {
			go o.types(t, "name", keys)
			got, err := p.Input(t.Context(), Question{Text: "name", Default: "dc1"})
			if err != nil || got != want {
				t.Errorf("keys %q: %q, %v", keys, got, err)
			}
		})
	}
}

func TestPasswordIsNotShownAndIsRedactedAfterwards(t *testing.T) {
	each(t, func(t *testing.T, o *operator, p prompts) {
		go o.types(t, "passphrase", "hunter22\r")
		got, err := p.Password(t.Context(), Question{Text: "passphrase"})
		if err != nil || got != "hunter22" {
			t.Fatalf("%q, %v", got, err)
		}
		if strings.Contains(o.text(), "hunter") {
			t.Errorf("shown: %q", o.text())
		}
		if s := p.red.Redact("it is hunter22."); s != "it is [redacted]." {
			t.Errorf("redacted to %q", s)
		}
	})
}

func TestSelectReturnsTheOptionAsGiven(t *testing.T) {
	options := []string{"alpha", "be\x1bta", "gamma"}
	each(t, func(t *testing.T, o *operator, p prompts) {
		keys := "2\r"
		if _, isPlain := p.asker.(*plain); !isPlain {
			keys = "\x1b[B\r" // arrow down
		}
		go o.types(t, "gamma", keys)
		got, err := p.Select(t.Context(), Question{Text: "which"}, options)
		if err != nil || got != options[1] {
			t.Errorf("%q, %v", got, err)
		}
		if strings.Contains(o.text(), "be\x1bta") {
			t.Error("an option reached the terminal raw")
		}
	})
}

// watched says when a password question has really ended.
type watched struct {
	asker
	ended chan struct{}
}

func (w watched) password(text string) (string, error) {
	defer close(w.ended)
	return w.asker.password(text)
}

func TestAnEndedContextEndsTheQuestionAndRestoresTheTerminal(t *testing.T) {
	each(t, func(t *testing.T, o *operator, p prompts) {
		ended := make(chan struct{})
		p.asker = watched{p.asker, ended}
		before, err := term.GetState(int(p.tty.in.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { o.types(t, "passphrase", ""); cancel() }()
		_, err = p.Password(ctx, Question{Text: "passphrase"})
		if fail.CodeOf(err) != fail.Interrupted {
			t.Errorf("code %d: %v", fail.CodeOf(err), err)
		}
		after, err := term.GetState(int(p.tty.in.Fd()))
		if err != nil || *before != *after {
			t.Errorf("terminal was left changed: %v", err)
		}
		io.WriteString(o.pt, "\r") // ends the goroutine that still reads
		<-ended
	})
}

func TestEndOfInputIsAnInterruptNotAnAnswer(t *testing.T) {
	each(t, func(t *testing.T, o *operator, p prompts) {
		keys := "\x04"
		if _, isPlain := p.asker.(*plain); !isPlain {
			keys = "\x03" // survey reads Ctrl-C as a key
		}
		go o.types(t, "really?", keys)
		ok, err := p.Confirm(t.Context(), Question{Text: "really?", Default: "yes"})
		if ok || fail.CodeOf(err) != fail.Interrupted {
			t.Errorf("%v, code %d: %v", ok, fail.CodeOf(err), err)
		}
	})
}

func TestWithoutATerminalEveryQuestionIsRefusedAndNothingIsRead(t *testing.T) {
	in := strings.NewReader("y\ny\ny\n")
	var out, errs bytes.Buffer
	p := New(Config{In: in, Out: &out, Err: &errs}).NewPrompter()
	q := Question{Text: "really?", Flag: "--yes"}
	_, e1 := p.Confirm(t.Context(), q)
	_, e2 := p.TypeName(t.Context(), q, "x")
	_, e3 := p.Input(t.Context(), q)
	_, e4 := p.Password(t.Context(), q)
	_, e5 := p.Select(t.Context(), q, []string{"a"})
	for i, err := range []error{e1, e2, e3, e4, e5} {
		if fail.CodeOf(err) != fail.Refused {
			t.Errorf("question %d: code %d: %v", i, fail.CodeOf(err), err)
		}
		if h := fail.Hints(err); len(h) != 1 || !strings.Contains(h[0], "--yes") {
			t.Errorf("question %d: hints %q", i, h)
		}
	}
	if in.Len() != 6 || out.Len() != 0 || errs.Len() != 0 {
		t.Errorf("read %d bytes, wrote %q and %q", 6-in.Len(), &out, &errs)
	}
}

func TestATerminalOnOneEndOnlyIsNone(t *testing.T) {
	_, tt := openTTY(t)
	for name, c := range map[string]Config{
		"stdin piped":  {In: strings.NewReader(""), Out: tt.out, Err: tt.out},
		"stderr piped": {In: tt.in, Out: tt.out, Err: io.Discard},
	} {
		if _, refuses := New(c).NewPrompter().(noTTY); !refuses {
			t.Errorf("%s: would ask", name)
		}
	}
	if _, refuses := New(Config{In: tt.in, Out: io.Discard, Err: tt.out}).NewPrompter().(noTTY); refuses {
		t.Error("stdout piped: would not ask, though questions go to stderr")
	}
	dumb := New(Config{In: tt.in, Out: tt.out, Err: tt.out, Term: "dumb"})
	if p, ok := dumb.NewPrompter().(prompts); !ok {
		t.Error("dumb terminal: would not ask")
	} else if _, ok := p.asker.(*plain); !ok {
		t.Errorf("dumb terminal: asks with %T", p.asker)
	}
}
