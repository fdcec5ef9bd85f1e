package ui

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/term"
)

// plain asks with nothing but lines of text.
type plain struct {
	tty tty
	in  *bufio.Reader
}

func newPlain(t tty) asker { return &plain{tty: t, in: bufio.NewReader(t.in)} }

func (p *plain) confirm(text string, def bool) (bool, error) {
	hint := "(y/N)"
	if def {
		hint = "(Y/n)"
	}
	for {
		got, err := p.line(text + " " + hint + " ")
		if err != nil {
			return false, err
		}
		switch strings.ToLower(got) {
		case "":
			return def, nil
		case "y", "yes":
			return true, nil
		case "n", "no":
			return false, nil
		}
		fmt.Fprintln(p.tty.out, "answer y or n")
	}
}

func (p *plain) input(text, def string) (string, error) {
	if def != "" {
		text += " (" + def + ")"
	}
	got, err := p.line(text + " ")
	if got == "" {
		got = def
	}
	return got, err
}

func (p *plain) password(text string) (string, error) {
	fmt.Fprint(p.tty.out, text+" ")
	got, err := term.ReadPassword(int(p.tty.in.Fd()))
	fmt.Fprintln(p.tty.out)
	if errors.Is(err, io.EOF) {
		err = errInterrupt
	}
	return string(got), err
}

func (p *plain) choose(text string, options []string, def string) (string, error) {
	for i, o := range options {
		fmt.Fprintf(p.tty.out, "%3d  %s\n", i+1, o)
	}
	for {
		got, err := p.input(text, def)
		if err != nil {
			return "", err
		}
		for i, o := range options {
			if got == o || got == strconv.Itoa(i+1) {
				return o, nil
			}
		}
		fmt.Fprintf(p.tty.out, "answer with a number from 1 to %d\n", len(options))
	}
}

// line reads one line; the terminal stays in its own mode, so that Ctrl-C is a
// signal and reaches the command's context.
func (p *plain) line(prompt string) (string, error) {
	fmt.Fprint(p.tty.out, prompt)
	got, err := p.in.ReadString('\n')
	if errors.Is(err, io.EOF) {
		fmt.Fprintln(p.tty.out)
		return "", errInterrupt
	}
	return strings.TrimSpace(got), err
}
