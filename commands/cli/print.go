package cli

import (
	"errors"
	"fmt"

	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/ui"
)

// Print writes a command's answer to stdout in the form asked for with -o: v
// itself as JSON (a slice becomes one line per element with jsonl), or the
// table that the function fills.
func (e *Env) Print(v any, table func(t *ui.Table)) error {
	switch e.Globals.Output {
	case JSON:
		return ui.JSON(e.UI.Out(), v)
	case JSONL:
		return ui.JSONL(e.UI.Out(), v)
	}
	t := e.UI.NewTable(e.Globals.NoHeader)
	table(t)
	return t.Render(e.UI.Out())
}

// PrintText is [Env.Print] for an answer that is no list: text writes it for
// people, with Out and Printf of the UI.
func (e *Env) PrintText(v any, text func(u *ui.UI) error) error {
	switch e.Globals.Output {
	case JSON:
		return ui.JSON(e.UI.Out(), v)
	case JSONL:
		return ui.JSONL(e.UI.Out(), v)
	}
	return text(e.UI)
}

// codeNames returns the names of the exit codes in JSON errors.
func codeNames() map[fail.Code]string {
	return map[fail.Code]string{
		fail.Failed: "failed", fail.Usage: "usage", fail.Faults: "faults", fail.Refused: "refused",
		fail.Midway: "midway", fail.Stuck: "stuck", fail.Held: "held",
		fail.Unreachable: "unreachable", fail.Interrupted: "interrupted",
	}
}

// jsonError is the form of an error on stderr where the answer is JSON.
type jsonError struct {
	Error struct {
		Code     string   `json:"code"`
		ExitCode int      `json:"exit_code"`
		Message  string   `json:"message"`
		Hints    []string `json:"hints"`
	} `json:"error"`
}

// Report prints an error once, on stderr, and returns the exit code. It is
// called by the root command only. An answer whose reader has gone away is not
// an error: whoever said `| head` has what they wanted.
func (e *Env) Report(err error) int {
	code := fail.CodeOf(err)
	switch {
	case errors.Is(err, ui.ErrOutputClosed):
		return int(fail.OK)
	case err == nil || fail.IsSilent(err):
		return int(code)
	}
	if e.Globals.WantsJSON() {
		var je jsonError
		je.Error.Code, je.Error.ExitCode = codeNames()[code], int(code)
		je.Error.Message = e.UI.Redactor.Redact(fail.Text(err))
		je.Error.Hints = []string{}
		for _, h := range fail.Hints(err) {
			je.Error.Hints = append(je.Error.Hints, e.UI.Redactor.Redact(h))
		}
		_ = ui.JSON(e.UI.Err(), je) // nobody is left to tell
		return int(code)
	}
	fmt.Fprintf(e.UI.Err(), "%s: %s\n", e.Name, ui.CleanText(fail.Text(err)))
	for _, h := range fail.Hints(err) {
		fmt.Fprintf(e.UI.Err(), "hint: %s\n", ui.CleanText(h))
	}
	return int(code)
}
