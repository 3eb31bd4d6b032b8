package main

import (
	"fmt"
	"io"
	"path/filepath"
	"time"

	"ocspfleet/integration/testkit/devfleet"

	"github.com/spf13/cobra"
)

func upCommand() *cobra.Command {
	var o devfleet.Options
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a fresh fleet, replacing an earlier one in the same folder",
		Long: `Start a CA, a master and sites on 127.0.0.1, each site with its own PostgreSQL,
SoftHSM token and responder certificate, and return when every site is ready.
An earlier fleet in the folder is stopped and replaced, or kept with --resume.

Ports: BASE+0 the master's PostgreSQL, BASE+1 its ocspsyncd (admin); for site i,
counted from 1, BASE+10*i: +0 ocspd, +1 ocspd (admin), +2 PostgreSQL, +3 ocspsyncd (admin).`,
		Example: "  ocspfleet up --dir .run --sites 3 --certs 100000 --base-port 18000",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			began := time.Now()
			o.Progress = cmd.ErrOrStderr()
			f, err := devfleet.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Fprintf(o.Progress, "ready after %.1f s\n\n", time.Since(began).Seconds())
			if err := devfleet.WriteStatus(cmd.OutOrStdout(), f.Status(cmd.Context())); err != nil {
				return err
			}
			hints(cmd.OutOrStdout(), f)
			return nil
		},
	}
	dirFlag(cmd, &o.Dir, ".run")
	flags := cmd.Flags()
	flags.IntVar(&o.Sites, "sites", 2, "how many sites")
	flags.IntVar(&o.Certs, "certs", 1000, "how many certificates, both issuers together (about 90 at least)")
	flags.StringVar(&o.Sync, "sync", "mixed", "how the sites follow the master: logical, feed or mixed")
	flags.IntVar(&o.BasePort, "base-port", 18000, "first port of the fleet")
	flags.BoolVar(&o.Resume, "resume", false, "keep the earlier fleet and start what is down")
	return cmd
}

// hints prints commands to try, to be copied as they are.
func hints(out io.Writer, f *devfleet.Fleet) {
	issuer, site := f.Issuers[0], f.Sites[0]
	last := f.Sites[len(f.Sites)-1]
	ask := func(at devfleet.Site, serial string) string {
		return shell("openssl", f.OpenSSLArgs(at, issuer, serial)...)
	}
	ctl := func(args ...string) string {
		return shell(f.Ocspctl, append([]string{"--config", f.OcspctlConfig}, args...)...)
	}
	fresh := issuer.Serials.Good[3]
	own := func(verb string, args ...string) string {
		return shell(filepath.Join(filepath.Dir(f.Ocspctl), "ocspfleet"), append([]string{verb, "--dir", f.Rel(f.Dir())}, args...)...)
	}
	fmt.Fprintf(out, `
Try:
  # a good, a revoked and a never issued certificate
  %s
  %s
  %s
  # revoke one at the master, then ask a site
  %s
  %s
  # the master dies; the sites answer on
  kill -9 %d %d
  %s
  # start again what is down; look; stop
  %s
  %s
  %s
  %s
All of it stands in %s.
`,
		ask(site, issuer.Serials.Good[2]), ask(site, issuer.Serials.Revoked[2].Serial), ask(last, issuer.Serials.NeverIssued[0]),
		ctl("cert", "revoke", "--issuer", issuer.Name, "--serial", fresh, "--reason", "keyCompromise", "--apply"), ask(last, fresh),
		f.Master.PIDs.Postgres, f.Master.PIDs.Ocspsyncd, ask(last, issuer.Serials.Good[4]),
		own("up", "--resume"), own("status"), own("logs", site.Name+"/ocspd"), own("down"), f.Rel(f.Dir()+"/fleet.json"))
}
