package boot

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"ocspfleet/cmd/internal/printable"
)

// Exit codes, the same for every program.
const (
	ExitDone  = 0
	ExitError = 1
	ExitUsage = 2
	// ExitNoRestart: a restart would do harm, a person must act first (systemd:
	// RestartPreventExitStatus=4). 3 is ocspctl's "checked and found wrong".
	ExitNoRestart = 4
)

// Program is the text of --help for a daemon.
type Program struct {
	Name    string // "ocspd"
	Summary string // one sentence
	Example string // one or more full command lines
	Config  string // default of --config
	// NoRestart is the error that ends it with ExitNoRestart; may be nil.
	NoRestart error
}

// Env is what a daemon gets to run with.
type Env struct {
	Config    string         // path of the configuration file
	CheckOnly bool           // do everything but listen, then return nil
	Log       *slog.Logger   // to stderr: text on a terminal, else JSON
	Level     *slog.LevelVar // of Log; the configuration and the admin set it
}

// checkPatience ends a --check-config that would otherwise wait for a missing database, as a
// daemon does: 10 million rows are loaded in 10 s.
const checkPatience = 30 * time.Second

// Main reads the flags --config, --check-config, --version and --help, calls run and returns
// the exit code. run's context ends with SIGINT or SIGTERM; a second signal then ends the
// process at once. Requests must not use that context: they are finished, not cut, when it
// ends.
func Main(p Program, args []string, stdout io.Writer, stderr *os.File, run func(context.Context, Env) error) int {
	tty := term.IsTerminal(int(stderr.Fd()))
	out, said := printable.Writer(stdout), printable.Writer(stderr)
	var env Env
	var version bool
	flags := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // we report errors ourselves
	flags.StringVar(&env.Config, "config", p.Config, "read the configuration from `FILE`")
	flags.BoolVar(&env.CheckOnly, "check-config", false, "do everything short of listening, then exit")
	flags.BoolVar(&version, "version", false, "print version and build, then exit")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		help(p, flags, out)
		return ExitDone
	case err == nil && flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(said, "%s: %v (see %s --help)\n", p.Name, err, p.Name)
		return ExitUsage
	}
	if version {
		fmt.Fprintf(out, "%s %s\n", p.Name, Version())
		return ExitDone
	}

	// SIGHUP may be sent to all services as a reload: it must end none. ocspsyncd handles it.
	signal.Ignore(syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	if env.CheckOnly {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, checkPatience)
		defer cancel()
	}
	env.Level = new(slog.LevelVar)
	env.Log = NewLogger(stderr, tty, env.Level)
	err = run(ctx, env)
	if !env.CheckOnly && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return ExitDone // a stop was requested during the start
	}
	if err != nil {
		fmt.Fprintf(said, "%s: %v\n", p.Name, err)
		if p.NoRestart != nil && errors.Is(err, p.NoRestart) {
			return ExitNoRestart
		}
		return ExitError
	}
	if env.CheckOnly {
		fmt.Fprintf(out, "%s: %s is in order\n", p.Name, env.Config)
	}
	return ExitDone
}

// StateDirectory is the folder that systemd made for the unit's StateDirectory=
// (systemd.exec(5)), "" without.
func StateDirectory() string {
	first, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":")
	return first
}

func help(p Program, flags *flag.FlagSet, out io.Writer) {
	fmt.Fprintf(out, "%s: %s\n\nFlags:\n", p.Name, p.Summary)
	flags.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		line := "--" + f.Name
		if value != "" {
			line += " " + value
		}
		if f.DefValue != "" && f.DefValue != "false" {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(out, "  %-16s %s\n", line, usage)
	})
	fmt.Fprintf(out, "\nExample:\n  %s\n", p.Example)
}

// NewLogger logs to w with times in UTC: text for people, else JSON. Control characters of a
// terminal are escaped in both, whatever text is logged.
func NewLogger(w io.Writer, text bool, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime {
			a.Value = slog.TimeValue(a.Value.Time().UTC())
		}
		return a
	}}
	w = printable.Writer(w) // JSON does not escape C1 and bidirectional controls
	if text {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// Version says which build this is: module version, revision of the sources and
// whether they were modified, Go and platform.
func Version() string {
	version, revision, modified := "(devel)", "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = " " + s.Value[:min(12, len(s.Value))]
			case s.Key == "vcs.modified" && s.Value == "true":
				modified = " modified"
			}
		}
	}
	return fmt.Sprintf("%s%s%s %s %s/%s", version, revision, modified, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
