//go:build !illumos && !solaris

package ui

import (
	"errors"
	"strings"

	"github.com/AlecAivazis/survey/v2"
	"github.com/AlecAivazis/survey/v2/core"
	"github.com/AlecAivazis/survey/v2/terminal"
)

// surveyor asks with survey. Its streams are stdin and stderr: on its own it
// would write escape sequences into the answer on stdout.
type surveyor struct{ tty tty }

func newAsker(t tty) asker { return newSurveyor(t) }

func newSurveyor(t tty) asker {
	// survey has no per-prompt setting for this, only its package variable.
	core.DisableColor = !t.colour
	return &surveyor{t}
}

func (s *surveyor) confirm(text string, def bool) (ok bool, err error) {
	err = s.askOne(&survey.Confirm{Message: text, Default: def}, &ok)
	return ok, err
}

func (s *surveyor) input(text, def string) (got string, err error) {
	err = s.askOne(&survey.Input{Message: text, Default: def}, &got)
	return strings.TrimSpace(got), err
}

func (s *surveyor) password(text string) (got string, err error) {
	err = s.askOne(&survey.Password{Message: text}, &got)
	return got, err
}

func (s *surveyor) choose(text string, options []string, def string) (got string, err error) {
	sel := &survey.Select{Message: text, Options: options}
	if def != "" {
		sel.Default = def
	}
	err = s.askOne(sel, &got)
	return got, err
}

func (s *surveyor) askOne(p survey.Prompt, answer any) error {
	err := survey.AskOne(p, answer, survey.WithStdio(s.tty.in, s.tty.out, s.tty.out))
	if errors.Is(err, terminal.InterruptErr) {
		return errInterrupt
	}
	return err
}
