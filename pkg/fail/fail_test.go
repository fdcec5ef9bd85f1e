package fail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
)

func TestCodeOf(t *testing.T) {
	held := New(Held, "lock: held by %s: %w", "hn1", io.ErrClosedPipe)
	for name, tc := range map[string]struct {
		err  error
		want Code
	}{
		"nil":                       {nil, OK},
		"plain":                     {io.EOF, Failed},
		"chosen":                    {held, Held},
		"wrapped":                   {fmt.Errorf("run: %w", held), Held},
		"hint keeps the code":       {Hint(held, "wait"), Held},
		"outermost wins":            {As(Midway, held), Midway},
		"cancelled":                 {fmt.Errorf("x: %w", context.Canceled), Interrupted},
		"cancelled and classified":  {As(Midway, context.Canceled), Midway},
		"hint over cancelled":       {Hint(context.Canceled, "again"), Interrupted},
		"deadline is not interrupt": {context.DeadlineExceeded, Failed},
		"silent":                    {Silent(Faults), Faults},
	} {
		if got := CodeOf(tc.err); got != tc.want {
			t.Errorf("%s: CodeOf = %d, want %d", name, got, tc.want)
		}
	}
	if !errors.Is(held, io.ErrClosedPipe) {
		t.Error("the cause is lost")
	}
}

func TestHintsAddUpInnermostFirst(t *testing.T) {
	err := Hint(fmt.Errorf("b: %w", Hint(io.EOF, "one")), "two")
	if got := Hints(err); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("hints = %q", got)
	}
	if Hint(nil, "x") != nil || As(Held, nil) != nil {
		t.Error("a nil error must stay nil")
	}
	if !IsSilent(fmt.Errorf("w: %w", Silent(Faults))) || IsSilent(io.EOF) {
		t.Error("IsSilent")
	}
}

func TestTableIsCompleteAndOrdered(t *testing.T) {
	if !slices.IsSortedFunc(Table(), func(a, b Row) int { return int(a.Code - b.Code) }) {
		t.Error("table is not in order")
	}
	if len(Table()) != 10 {
		t.Errorf("%d rows", len(Table()))
	}
}

func TestTextSpeaksOfInterruptsAndTimeNotOfContexts(t *testing.T) {
	for want, err := range map[string]error{
		"/bob/stor: list: interrupted": fmt.Errorf("/bob/stor: list: %w", context.Canceled),
		"interrupted":                  fmt.Errorf("interrupted: %w", context.Canceled),
		"manta: timed out":             fmt.Errorf("manta: %w", context.DeadlineExceeded),
		"other":                        errors.New("other"),
	} {
		if got := Text(err); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
