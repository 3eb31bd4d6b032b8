package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/internal/manual"
)

func (p *program) manCommand() *cobra.Command {
	var cmd *cobra.Command
	cmd = p.Command("man DIR", "write the manual pages, one per verb, into DIR", "ocspctl man /usr/local/share/man/man1", cobra.ExactArgs(1),
		func(_ context.Context, args []string) error { return p.man(cmd.Root(), args[0]) })
	return cmd
}

func (p *program) man(root *cobra.Command, dir string) error {
	pages, err := manual.Commands(root, dir)
	if err != nil {
		return err
	}
	return p.Print(map[string]any{"directory": dir, "pages": pages}, func(t *cli.Table) {
		t.Line(fmt.Sprintf("%d pages are in %s: man -l %s", pages, dir, filepath.Join(dir, "ocspctl.1")))
	})
}
