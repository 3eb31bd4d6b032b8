package about

import (
	"context"
	"path/filepath"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/internal/manual"

	"github.com/spf13/cobra"
)

// man is man.
type man struct {
	Dir string `arg:"DIR"`

	root func() *cobra.Command
}

// Man returns the verb that writes the manual of all commands below the root.
func Man(root func() *cobra.Command) cli.Verb { return &man{root: root} }

func (man) Doc() cli.Doc {
	return cli.Doc{
		Name: "man", Short: "write the manual pages, one per verb, into DIR",
		Long:    `For packages and for reading without us: man -l DIR/ocspctl-cert-revoke.1.`,
		Example: "ocspctl man /usr/local/share/man/man1",
	}
}

func (v *man) Run(_ context.Context, p *cli.Program) error {
	pages, err := manual.Commands(v.root(), v.Dir)
	if err != nil {
		return err
	}
	return p.Show(cli.Record{cli.F("directory", "", v.Dir), cli.F("pages", "", pages)}, cli.Line("%d pages are in %s: man -l %s", pages, v.Dir, filepath.Join(v.Dir, "ocspctl.1")))
}

// version is version.
type version struct{}

// Version returns the verb that prints the version of this build.
func Version() cli.Verb { return &version{} }

func (version) Doc() cli.Doc {
	return cli.Doc{
		Name: "version", Short: "print version and build",
		Long:    `Prints the module's version, the revision of its sources and the Go that built it.`,
		Example: "ocspctl version",
	}
}

func (version) Run(_ context.Context, p *cli.Program) error {
	return p.Show(cli.Record{cli.F("version", "", boot.Version())}, cli.Line("ocspctl %s", boot.Version()))
}
