package ui

import (
	"context"
	"fmt"
	"os"
	"slices"
)

// Question is what a prompt asks.
type Question struct {
	Text    string
	Default string // answer to an empty line; "yes" for Confirm
	Flag    string // what to say on the command line instead, such as "--yes"
}

// Prompter asks the operator. Every method writes to stderr and returns:
//
//   - a fail.Refused naming the question's Flag where stdin or stderr is no
//     terminal, without having written anything;
//   - a fail.Interrupted on Ctrl-C, end of input, or when ctx ends, with the
//     terminal restored.
//
// There are two implementations with the same behaviour: survey, and a plain
// one for systems where survey does not build and for dumb terminals.
type Prompter interface {
	// Confirm asks a yes/no question.
	Confirm(ctx context.Context, q Question) (bool, error)
	// TypeName asks for name to be typed in full; true only if it was.
	TypeName(ctx context.Context, q Question, name string) (bool, error)
	// Input asks for a line of text, blanks around it cut off.
	Input(ctx context.Context, q Question) (string, error)
	// Password asks for a secret without showing it; it is registered with the
	// Redactor before it is returned.
	Password(ctx context.Context, q Question) (string, error)
	// Select asks for one of options.
	Select(ctx context.Context, q Question, options []string) (string, error)
}

// NewPrompter returns the prompter that suits the terminal, or one that refuses
// every question where there is none.
func (u *UI) NewPrompter() Prompter {
	if !u.CanPrompt() {
		return noTTY{}
	}
	t := tty{in: u.in.(*os.File), out: u.raw.(*os.File), colour: u.ErrPaint().on}
	if u.term == "dumb" {
		return prompts{asker: newPlain(t), tty: t, red: u.Redactor}
	}
	return prompts{asker: newAsker(t), tty: t, red: u.Redactor}
}

// tty is the terminal a question is asked on.
type tty struct {
	in, out *os.File
	colour  bool
}

// asker is the part of a prompter that differs: one blocking question each,
// text already clean. errInterrupt stands for Ctrl-C and end of input.
type asker interface {
	confirm(text string, def bool) (bool, error)
	input(text, def string) (string, error)
	password(text string) (string, error)
	choose(text string, options []string, def string) (string, error)
}

// prompts is everything the two implementations share.
type prompts struct {
	asker asker
	tty   tty
	red   *Redactor
}

func (p prompts) Confirm(ctx context.Context, q Question) (bool, error) {
	return ask(ctx, p.tty, func() (bool, error) { return p.asker.confirm(Clean(q.Text), q.Default == "yes") })
}

func (p prompts) TypeName(ctx context.Context, q Question, name string) (bool, error) {
	q.Text, q.Default = fmt.Sprintf("%s Type %s to go on:", q.Text, name), ""
	got, err := p.Input(ctx, q)
	return err == nil && got == name, err
}

func (p prompts) Input(ctx context.Context, q Question) (string, error) {
	return ask(ctx, p.tty, func() (string, error) { return p.asker.input(Clean(q.Text), Clean(q.Default)) })
}

func (p prompts) Password(ctx context.Context, q Question) (string, error) {
	got, err := ask(ctx, p.tty, func() (string, error) { return p.asker.password(Clean(q.Text)) })
	p.red.Add(got)
	return got, err
}

func (p prompts) Select(ctx context.Context, q Question, options []string) (string, error) {
	shown := make([]string, len(options))
	for i, o := range options {
		shown[i] = Clean(o)
	}
	got, err := ask(ctx, p.tty, func() (string, error) { return p.asker.choose(Clean(q.Text), shown, Clean(q.Default)) })
	if i := slices.Index(shown, got); err == nil && i >= 0 {
		return options[i], nil
	}
	return "", err
}
