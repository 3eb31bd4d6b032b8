package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ocspfleet/integration/testkit/devfleet"

	"github.com/spf13/cobra"
)

// demoFolder is inside the folder of the ordinary fleet, which does not touch it.
const demoFolder = "demo"

func demoCommand() *cobra.Command {
	o := devfleet.Options{Sites: 2, Certs: 1000}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Tell the story in a fleet of its own: revoke, kill the master, revoke a site",
		Long: `Start a fleet of two sites in a folder and on ports of its own and show, with each
command and its real output: both sites answer; a revocation is seen by both; the
master is killed and both answer on; a site's certificate is revoked, so that this
site stops and the other one says so. Exit 0 only if all of it was seen. The fleet
is removed at the end, however it ends.`,
		Example: "  ocspfleet demo",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			t := &transcript{out: cmd.OutOrStdout()}
			o.Progress = t.out
			t.title("A fleet: CA, master, two sites, each with its own PostgreSQL, token and certificate")
			began := time.Now()
			defer func() {
				err = errors.Join(err, devfleet.Down(context.WithoutCancel(cmd.Context()), o.Dir))
				if err == nil {
					t.summary(time.Since(began))
				}
			}()
			f, err := devfleet.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			if err := devfleet.WriteStatus(t.out, f.Status(cmd.Context())); err != nil {
				return fmt.Errorf("printing the status: %w", err)
			}
			return (&story{fleet: f, transcript: t}).tell(cmd.Context())
		},
	}
	dirFlag(cmd, &o.Dir, ".run/"+demoFolder)
	cmd.Flags().StringVar(&o.Sync, "sync", "mixed", "how the sites follow the master: logical, feed or mixed")
	cmd.Flags().IntVar(&o.BasePort, "base-port", 18400, "first port of the demo's fleet")
	return cmd
}
