package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"ocspfleet/cmd/internal/manual"
	"ocspfleet/cmd/internal/printable"
	"ocspfleet/integration/testkit/devfleet"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitDone  = 0
	exitError = 1
	exitUsage = 2
	exitWrong = 3 // the check found something wrong
)

// errWrong says that the command found something wrong and has printed it.
var errWrong = errors.New("something is wrong")

func main() {
	keepToOurselves()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// keepToOurselves makes sure that no daemon inherits an open file of our caller, such as the
// pipe of a make -j: its reader would wait for the end of the fleet.
func keepToOurselves() {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, file := range files {
		if fd, err := strconv.Atoi(file.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

func run(ctx context.Context, args []string) int {
	root := &cobra.Command{
		Use:           "ocspfleet",
		Short:         "Start a whole OCSP fleet on this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetArgs(args)
	root.SetOut(printable.Writer(os.Stdout))
	root.SetErr(printable.Writer(os.Stderr))
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(upCommand(), downCommand(), statusCommand(), logsCommand(), demoCommand(), manCommand())
	err := root.ExecuteContext(ctx)
	var wish *devfleet.UsageError
	var usage *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errWrong):
		return exitWrong
	}
	fmt.Fprintf(root.ErrOrStderr(), "ocspfleet: %v\n", err)
	if errors.As(err, &wish) || errors.As(err, &usage) || strings.HasPrefix(err.Error(), "unknown command") {
		return exitUsage
	}
	return exitError
}

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the manual pages, one per command, into DIR",
		Example: "  ocspfleet man /usr/local/share/man/man1",
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(1)(cmd, args); err != nil {
				return &usageError{err}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := manual.Commands(cmd.Root(), args[0])
			return err
		},
	}
}

// usageError is a command line that cannot be understood.
type usageError struct{ error }

func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return &usageError{err}
	}
	return nil
}

// dirFlag adds --dir, which every command has.
func dirFlag(cmd *cobra.Command, dir *string, value string) {
	cmd.Flags().StringVar(dir, "dir", value, "`folder` of the fleet")
}
