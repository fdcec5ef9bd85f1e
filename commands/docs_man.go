package commands

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manPages renders one page of section 1 per command, and one for each other
// name of the program that leads to the page of its command.
func manPages(root *cobra.Command) []page {
	var pages []page
	walk(root, func(cmd *cobra.Command) {
		pages = append(pages, page{pageName(cmd) + ".1", man(cmd)})
	})
	for _, a := range aliases() {
		if cmd := find(root, a.path); cmd != nil && root.Name() == program {
			pages = append(pages, page{a.name + ".1", fmt.Appendf(nil, ".so man1/%s.1\n", pageName(cmd))})
		}
	}
	return pages
}

// find returns the command at path below root, nil if there is none.
func find(root *cobra.Command, path []string) *cobra.Command {
	for _, name := range path {
		var next *cobra.Command
		for _, c := range root.Commands() {
			if c.Name() == name {
				next = c
			}
		}
		if root = next; root == nil {
			return nil
		}
	}
	return root
}

func man(cmd *cobra.Command) []byte {
	var b bytes.Buffer
	cmd.InitDefaultHelpFlag()
	// No date: the page must be the same for the same commands.
	fmt.Fprintf(&b, ".TH %q 1 \"\" %q \"User Commands\"\n", strings.ToUpper(pageName(cmd)), program)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(pageName(cmd)), roff(cmd.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n.SH DESCRIPTION\n", roff(useLine(cmd)))
	for _, p := range parts(cmd.Long) {
		switch p.kind {
		case heading:
			fmt.Fprintf(&b, ".SH %s\n", roff(p.text))
		case literal:
			fmt.Fprintf(&b, ".PP\n.nf\n%s\n.fi\n", roff(p.text))
		default:
			fmt.Fprintf(&b, ".PP\n%s\n", roff(p.text))
		}
	}
	if cmd.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(strings.Trim(cmd.Example, "\n")))
	}
	manFlags(&b, "OPTIONS", cmd.NonInheritedFlags())
	manFlags(&b, "GLOBAL OPTIONS", cmd.InheritedFlags())
	manSeeAlso(&b, cmd)
	return b.Bytes()
}

func manFlags(b *bytes.Buffer, heading string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", heading)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		names := "--" + f.Name
		if f.Shorthand != "" {
			names = "-" + f.Shorthand + ", " + names
		}
		fmt.Fprintf(b, ".TP\n.B %s\n%s", roff(strings.TrimSpace(names+" "+value)), roff(usage))
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
			fmt.Fprintf(b, " (default %s)", roff(f.DefValue))
		}
		b.WriteString("\n")
	})
}

func manSeeAlso(b *bytes.Buffer, cmd *cobra.Command) {
	var also []string
	if cmd.HasParent() {
		also = append(also, pageName(cmd.Parent()))
	}
	for _, sub := range visible(cmd) {
		also = append(also, pageName(sub))
	}
	if len(also) == 0 {
		return
	}
	b.WriteString(".SH SEE ALSO\n")
	for i, name := range also {
		fmt.Fprintf(b, ".BR %s (1)%s\n", roff(name), strings.Repeat(",", min(1, len(also)-1-i)))
	}
}

// roff escapes text: backslashes, hyphens that are to be copied as such, and
// dots and quotes that would begin a request.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
