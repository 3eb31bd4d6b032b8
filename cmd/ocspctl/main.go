// Command ocspctl is the CA staff's tool: it sets up the databases, registers
// and revokes certificates, enrols and revokes sites, and asks the fleet how it
// is; at a site it makes the OCSP key in the token. Everything is done by hand
// and stands in the audit with the name of who did it.
//
// Verbs that change what is answered show their plan and do it with --apply.
// Exit codes: 0 done, 1 error, 2 usage, 3 checked and found wrong, 4 the token refused
// the PIN, which is not offered again.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/cmd/internal/printable"
	"ocspfleet/hsm"
)

// exitWrong: the work was done, and what it looked at is not as it must be.
const exitWrong = 3

func main() {
	// A core would hold the token's PIN; where it cannot be forbidden there is none.
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	p := &program{
		stdout: printable.Writer(os.Stdout),
		stderr: printable.Writer(os.Stderr),
		data:   os.Stdout,
		meter:  os.Stderr,
		tty:    term.IsTerminal(int(os.Stderr.Fd())),
		now:    time.Now,
	}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		p.data = p.stdout
	}
	os.Exit(p.run(ctx, os.Args[1:]))
}

// run carries out one command line and returns the exit code.
func (p *program) run(ctx context.Context, args []string) int {
	root := p.rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var wrong *wrongError
	var usage *usageError
	switch {
	case err == nil:
		return boot.ExitDone
	case errors.As(err, &wrong):
		fmt.Fprintf(p.stderr, "ocspctl: %v\n", err)
		return exitWrong
	case errors.Is(err, hsm.ErrPIN):
		fmt.Fprintf(p.stderr, "ocspctl: %v\n", err)
		return boot.ExitNoRestart
	case errors.As(err, &usage) || !p.started: // cobra found it in the command line
		fmt.Fprintf(p.stderr, "ocspctl: %v (--help shows how)\n", err)
		return boot.ExitUsage
	default:
		fmt.Fprintf(p.stderr, "ocspctl: %v\n", err)
		return boot.ExitError
	}
}
