package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/cmd/internal/printable"
)

// ExitWrong is the exit code of a check that found something wrong.
const ExitWrong = 3

// Program is one run of a command-line tool.
type Program struct {
	Stdout io.Writer // through printable.Writer, as Stderr: for people, or JSON
	Stderr io.Writer
	Data   io.Writer // standard output as it is, for exports; printable on a terminal
	Meter  io.Writer // standard error as it is, for progress in our own words; a terminal
	TTY    bool      // Stderr is a terminal
	Screen *Screen   // Stdout, if it is a terminal
	Now    func() time.Time

	// NoRetry is an error after which running the same command again does harm: the exit code
	// is boot.ExitNoRestart.
	NoRetry error
	// Choices are the values of flags for the shell's completion, by the flag's name. If a
	// flag's help lists its values as `a|b|c`, they are taken from there.
	Choices map[string][]string

	ConfigPath string
	Output     string // table or json
	OneLine    bool   // json: each document in one line (NDJSON)

	name    string
	started bool // the command line was valid
}

// New returns the program of this process.
func New() *Program {
	p := &Program{
		Stdout: printable.Writer(os.Stdout),
		Stderr: printable.Writer(os.Stderr),
		Data:   os.Stdout,
		Meter:  os.Stderr,
		TTY:    term.IsTerminal(int(os.Stderr.Fd())),
		Now:    time.Now,
	}
	if p.Screen = openScreen(os.Stdout); p.Screen != nil {
		p.Data = p.Stdout
	}
	return p
}

// Main executes the process's command line and ends the process. A first signal ends the verb,
// a second one the process at once.
func (p *Program) Main(root *cobra.Command) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(p.Run(ctx, root, os.Args[1:]))
}

// Root is the command that holds the nouns.
func (p *Program) Root(name, short, config string, nouns ...*cobra.Command) *cobra.Command {
	p.name = name
	root := Noun(name, short, nouns...)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(flagMeant)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	root.PersistentFlags().StringVar(&p.ConfigPath, "config", config, "read the configuration from `FILE`")
	root.PersistentFlags().StringVar(&p.Output, "output", "table", "print a table for people (piped: a row is one line) or json for programs: `table|json`")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if !slices.Contains([]string{"table", "json"}, p.Output) {
			return Usagef("--output %q: want table or json", p.Output)
		}
		return nil
	}
	p.complete(root)
	return root
}

// Run executes one command line and returns the exit code.
func (p *Program) Run(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var wrong *wrongError
	var usage *usageError
	switch {
	case err == nil:
		return boot.ExitDone
	case errors.As(err, &wrong):
		return p.fail(err.Error(), ExitWrong, args)
	case p.NoRetry != nil && errors.Is(err, p.NoRetry):
		return p.fail(err.Error(), boot.ExitNoRestart, args)
	case errors.As(err, &usage) || !p.started: // cobra rejected the command line
		return p.fail(err.Error()+" (--help shows how)", boot.ExitUsage, args)
	default:
		return p.fail(err.Error(), boot.ExitError, args)
	}
}

// fail writes to standard error why the run ends with code, for programs as JSON: standard
// output has only the verb's document, or nothing.
func (p *Program) fail(text string, code int, args []string) int {
	// The wrong flag may come before --output.
	if p.Output != "json" && !slices.Contains(args, "--output=json") && !strings.Contains(strings.Join(args, " "), "--output json") {
		fmt.Fprintf(p.Stderr, "%s: %s\n", p.name, text)
		return code
	}
	line, err := json.Marshal(struct {
		Error string `json:"error"`
		Code  int    `json:"exit_code"`
	}{text, code})
	if err != nil {
		panic(err) // a string and a number
	}
	fmt.Fprintf(p.Stderr, "%s\n", line)
	return code
}

// usageError is a fault of the command line that cobra cannot see.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// Usagef is a fault of the command line: exit code 2.
func Usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// wrongError says that a check found something wrong.
type wrongError struct{ text string }

func (e *wrongError) Error() string { return e.text }

// Wrongf says that a check found something wrong: ExitWrong.
func Wrongf(format string, args ...any) error { return &wrongError{fmt.Sprintf(format, args...)} }

// User is the operating system's user of this process; after sudo also the user in SUDO_USER,
// which is a hint and not a proof.
func User() (string, error) {
	u, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("finding out who you are for the audit: %w", err)
	}
	if by := os.Getenv("SUDO_USER"); os.Geteuid() == 0 && by != "" && by != u.Username {
		return by + " as " + u.Username, nil
	}
	return u.Username, nil
}
