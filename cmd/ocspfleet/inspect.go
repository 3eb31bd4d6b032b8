package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"ocspfleet/integration/testkit/devfleet"

	"github.com/spf13/cobra"
)

func downCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop the fleet and remove its data; its logs stay",
		Long: `Stop every process of the fleet, whatever state it is in, and remove its data,
the one under /var/tmp included. The logs stay in FOLDER/log. What is left of a
broken-off demo (FOLDER/demo) goes as well.`,
		Example: "  ocspfleet down --dir .run",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Not the context of the signals: a stop must not end half done.
			for _, folder := range []string{dir + "/" + demoFolder, dir} {
				if err := devfleet.Down(cmd.Context(), folder); err != nil {
					return err
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "no fleet runs in %s any more\n", dir)
			return nil
		},
	}
	dirFlag(cmd, &dir, ".run")
	return cmd
}

// attach finds the fleet, or returns an error that says how to start one.
func attach(dir string) (*devfleet.Fleet, error) {
	f, err := devfleet.Attach(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no fleet in %s: start one with make up", dir)
	}
	return f, err
}

func statusCommand() *cobra.Command {
	var dir, output string
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show every part of the fleet; exit 3 if one is not ready",
		Example: "  ocspfleet status --dir .run --output json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return &usageError{fmt.Errorf("--output %s: want table or json", output)}
			}
			f, err := attach(dir)
			if err != nil {
				return err
			}
			all := f.Status(cmd.Context())
			if output == "json" {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				err = encoder.Encode(all)
			} else {
				err = devfleet.WriteStatus(cmd.OutOrStdout(), all)
			}
			if err != nil {
				return fmt.Errorf("printing the status: %w", err)
			}
			for _, s := range all {
				if !s.Ready {
					return errWrong
				}
			}
			return nil
		},
	}
	dirFlag(cmd, &dir, ".run")
	cmd.Flags().StringVar(&output, "output", "table", "table or json")
	return cmd
}

func logsCommand() *cobra.Command {
	var dir string
	var lines int
	cmd := &cobra.Command{
		Use:   "logs [PART]",
		Short: "Print the end of the logs",
		Long:  "Print the end of the logs of all parts, of one site (site-a, master) or of one part (site-a/ocspd).",
		Example: `  ocspfleet logs --dir .run
  ocspfleet logs --dir .run site-a/ocspd --lines 100`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.MaximumNArgs(1)(cmd, args); err != nil {
				return &usageError{err}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := attach(dir)
			if err != nil {
				return err
			}
			return f.WriteLogs(cmd.OutOrStdout(), append(args, "")[0], lines)
		},
	}
	dirFlag(cmd, &dir, ".run")
	cmd.Flags().IntVar(&lines, "lines", 20, "how many lines of each")
	return cmd
}
