// Command ocspctl is the CA staff's tool: it sets up the databases, registers
// and revokes certificates, enrols and revokes sites, and asks the fleet how it
// is; at a site it makes the OCSP key in the token. Everything is done by hand
// and stands in the audit with the name of who did it.
//
// Verbs that change what is answered show their plan and do it with --apply.
// Exit codes: 0 done, 1 error, 2 usage, 3 checked and found wrong, 4 the token refused
// the PIN, which is not offered again. With --output json the error is JSON, too, on
// standard error: {"error": TEXT, "exit_code": CODE}.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
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
	if p.screen = openScreen(os.Stdout); p.screen != nil {
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
		return p.fail(err.Error(), exitWrong, args)
	case errors.Is(err, hsm.ErrPIN):
		return p.fail(err.Error(), boot.ExitNoRestart, args)
	case errors.As(err, &usage) || !p.started: // cobra found it in the command line
		return p.fail(err.Error()+" (--help shows how)", boot.ExitUsage, args)
	default:
		return p.fail(err.Error(), boot.ExitError, args)
	}
}

// fail tells on standard error why the run ends with code, for programs as JSON: standard
// output has the verb's document, or nothing.
func (p *program) fail(text string, code int, args []string) int {
	// What is wrong with a flag may stand before --output.
	if p.output != "json" && !slices.Contains(args, "--output=json") && !strings.Contains(strings.Join(args, " "), "--output json") {
		fmt.Fprintf(p.stderr, "ocspctl: %s\n", text)
		return code
	}
	line, err := json.Marshal(struct {
		Error string `json:"error"`
		Code  int    `json:"exit_code"`
	}{text, code})
	if err != nil {
		panic(err) // a string and a number
	}
	fmt.Fprintf(p.stderr, "%s\n", line)
	return code
}
