package cli

import (
	"context"
	"reflect"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Doc is the help of a verb.
type Doc struct {
	Name    string // one word
	Short   string // one line, in lower case
	Long    string // more than the line; it follows the line in --help
	Example string // one command a line, each begins with the program's name

	// Flags that depend on each other, by their names with spaces between.
	OneOf     string // one of them must be given
	Exclusive string // at most one may be given
	Together  string // all or none
}

// Verb is a struct whose fields are its flags and arguments, with a Run method:
//
//	Serial string        `flag:"serial,required" help:"the serial in <HEX>"`
//	Life   time.Duration `flag:"life" help:"how long it lives"`
//	Site   string        `arg:"SITE"`
//
// The initial value of a field is the flag's default. <WORD> in a help text names the value. A
// list is split at commas with flag:"name,split". Embedded structs add their own flags. An
// argument in brackets is optional, one that ends with ... (a list) may be repeated.
type Verb interface {
	Doc() Doc
	Run(ctx context.Context, p *Program) error
}

// Worded is a verb whose help texts contain words to be replaced later: old and new words,
// alternating.
type Worded interface{ Words() []string }

// Wrapper is a verb that opens something for another verb, whose flags it has.
type Wrapper interface{ Unwrap() any }

// Noun is a command that only groups verbs, or nouns.
func Noun(name, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: name, Short: short, Args: cobra.ArbitraryArgs, RunE: nounOnly} // an unknown verb comes to RunE
	c.AddCommand(verbs...)
	return c
}

func nounOnly(cmd *cobra.Command, args []string) error {
	names := []string{}
	for _, verb := range cmd.Commands() {
		if verb.IsAvailableCommand() && verb.Name() != "completion" {
			names = append(names, verb.Name())
		}
	}
	known := strings.Join(names, ", ")
	if len(args) > 0 {
		return Usagef("%s: no %q here%s (want one of %s)", cmd.CommandPath(), args[0], meant(cmd, args[0], ""), known)
	}
	return Usagef("%s: want one of %s", cmd.CommandPath(), known)
}

// Verbs makes a noun of verbs.
func (p *Program) Verbs(name, short string, verbs ...Verb) *cobra.Command {
	noun := Noun(name, short)
	for _, v := range verbs {
		noun.AddCommand(p.Verb(v))
	}
	return noun
}

// Verb makes the command of a verb.
func (p *Program) Verb(v Verb) *cobra.Command {
	doc := v.Doc()
	b := binding{cmd: p.Command(doc.Name, doc.Short, doc.Example, nil, nil)}
	b.cmd.Long = strings.ToUpper(doc.Short[:1]) + doc.Short[1:] + ".\n\n" + doc.Long
	if doc.Long == "" {
		b.cmd.Long = ""
	}
	var of any = v
	for w, ok := of.(Wrapper); ok; w, ok = of.(Wrapper) {
		of = w.Unwrap()
	}
	if w, ok := of.(Worded); ok {
		b.words = w.Words()
	}
	b.bind(reflect.ValueOf(of).Elem())
	for _, rule := range []struct {
		flags string
		mark  func(...string)
	}{{doc.OneOf, b.cmd.MarkFlagsOneRequired}, {doc.Exclusive, b.cmd.MarkFlagsMutuallyExclusive}, {doc.Together, b.cmd.MarkFlagsRequiredTogether}} {
		if rule.flags != "" {
			rule.mark(strings.Fields(rule.flags)...)
		}
	}
	b.cmd.Args = b.args()
	b.cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p.started = true
		b.take(args)
		return v.Run(cmd.Context(), p)
	}
	return b.cmd
}

// Command makes a command that does something.
func (p *Program) Command(use, short, example string, args cobra.PositionalArgs, run func(ctx context.Context, args []string) error) *cobra.Command {
	lines := strings.Split(strings.TrimSpace(example), "\n")
	for i, line := range lines {
		lines[i] = "  " + strings.TrimSpace(line)
	}
	return &cobra.Command{
		Use: use, Short: short, Example: strings.Join(lines, "\n"), Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			p.started = true
			return run(cmd.Context(), args)
		},
	}
}

// Change holds the flags of a verb that changes something.
type Change struct {
	Apply bool   `flag:"apply" help:"do it; without it the plan is shown and nothing is done"`
	Why   string `flag:"why" help:"the <REASON> for people, kept in the audit"`

	action func() string
}

func (c *Change) bound(cmd *cobra.Command) {
	c.action = func() string {
		_, path, _ := strings.Cut(cmd.CommandPath(), " ")
		return path
	}
}

// WantWhy refuses a change that needs a second person's approval if no reason is given.
func (c *Change) WantWhy(what string) error {
	if c.Apply && strings.TrimSpace(c.Why) == "" {
		return Usagef("--why: %s says why", what)
	}
	return nil
}

// Outcome is the result of the change.
func (c *Change) Outcome(changed bool) Outcome { return NewOutcome(c.action(), c.Apply, changed) }

// AtOnce accepts --apply, so that it can be used with every verb, and ignores it.
type AtOnce struct {
	Ignored bool `flag:"apply,hidden"`
}

// Given knows which flags are on the command line.
type Given struct{ flags *pflag.FlagSet }

func (g *Given) bound(cmd *cobra.Command) { g.flags = cmd.Flags() }

// Given says whether the flag is on the command line.
func (g *Given) Given(flag string) bool { return g.flags.Changed(flag) }
