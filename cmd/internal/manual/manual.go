package manual

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Commands writes one page for each command below root, and for root, into dir, which it makes.
// It returns the number of pages.
func Commands(root *cobra.Command, dir string) (pages int, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, fmt.Errorf("writing the manual: %w", err)
	}
	var write func(c *cobra.Command) error
	write = func(c *cobra.Command) error {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			return nil
		}
		pages++
		if err := os.WriteFile(filepath.Join(dir, pageName(c)+".1"), page(c), 0o644); err != nil {
			return fmt.Errorf("writing the manual: %w", err)
		}
		for _, child := range c.Commands() {
			if err := write(child); err != nil {
				return err
			}
		}
		return nil
	}
	return pages, write(root)
}

// pageName is the name of a command's page: ocspctl-cert-revoke.
func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// roff escapes running text, so that no line of it is a request.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

// page is the page of one command (man-pages(7), groff_man(7)).
func page(c *cobra.Command) []byte {
	var b bytes.Buffer
	line := func(text string, args ...any) { fmt.Fprintf(&b, text+"\n", args...) }
	line(`.TH "%s" 1 "" "ocspfleet" "ocspfleet manual"`, strings.ToUpper(pageName(c)))
	line(".SH NAME\n%s \\- %s", roff(pageName(c)), roff(c.Short))
	line(".SH SYNOPSIS\n.B %s", roff(c.UseLine()))
	if c.Long != "" {
		line(".SH DESCRIPTION")
		for i, paragraph := range strings.Split(c.Long, "\n\n") {
			if i > 0 {
				line(".PP")
			}
			line("%s", roff(paragraph))
		}
	}
	for _, part := range []struct {
		title string
		flags *pflag.FlagSet
	}{{"OPTIONS", c.NonInheritedFlags()}, {"OPTIONS OF EVERY COMMAND", c.InheritedFlags()}} {
		if part.flags.HasAvailableFlags() {
			line(".SH %s", part.title)
			part.flags.VisitAll(func(f *pflag.Flag) { flagEntry(&b, f) })
		}
	}
	if c.Example != "" {
		line(".SH EXAMPLES\n.nf\n%s\n.fi", roff(c.Example))
	}
	line(".SH EXIT STATUS\n0: done. 1: error. 2: wrong usage. 3: checked, and found wrong.")
	var see []string
	if c.HasParent() {
		see = append(see, `\fB`+roff(pageName(c.Parent()))+`\fR(1)`)
	}
	for _, child := range c.Commands() {
		if child.IsAvailableCommand() && child.Name() != "completion" && child.Name() != "help" {
			see = append(see, `\fB`+roff(pageName(child))+`\fR(1)`)
		}
	}
	line(".SH SEE ALSO\n%s", strings.Join(see, ",\n"))
	return b.Bytes()
}

func flagEntry(b *bytes.Buffer, f *pflag.Flag) {
	if f.Hidden {
		return
	}
	value, usage := pflag.UnquoteUsage(f)
	fmt.Fprintf(b, ".TP\n\\fB%s\\fR", roff("--"+f.Name))
	if value != "" {
		fmt.Fprintf(b, " \\fI%s\\fR", roff(value))
	}
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" {
		usage += " (default " + f.DefValue + ")"
	}
	fmt.Fprintf(b, "\n%s\n", roff(usage))
}
