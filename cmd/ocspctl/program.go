package main

import (
	"context"
	"fmt"
	"io"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/db"
	"ocspfleet/migrations"
)

// program is one run of ocspctl.
type program struct {
	stdout io.Writer // through printable.Writer, as stderr: for eyes, or JSON
	stderr io.Writer
	data   io.Writer // standard output as it is, for exports; printable on a terminal
	meter  io.Writer // standard error as it is, for progress of our own words; a terminal
	tty    bool      // stderr is a terminal
	screen *screen   // stdout, if it is a terminal
	now    func() time.Time

	configPath string
	output     string // table or json
	oneLine    bool   // json: each document in one line (NDJSON)
	started    bool   // the command line was understood
}

// usageError is a fault of the command line that cobra cannot see.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// wrongError says that a check was made and something found wrong.
type wrongError struct{ text string }

func (e *wrongError) Error() string { return e.text }

func wrongf(format string, args ...any) error { return &wrongError{fmt.Sprintf(format, args...)} }

func (p *program) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "ocspctl",
		Short:         "work on a fleet of OCSP responders: databases, issuers, certificates, keys, sites",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs, // so that an unknown noun comes to RunE
		RunE:          nounOnly,
	}
	root.SetFlagErrorFunc(flagMeant)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.PersistentFlags().StringVar(&p.configPath, "config", "/etc/ocspfleet/ocspctl.yaml", "read the configuration from `FILE`")
	root.PersistentFlags().StringVar(&p.output, "output", "table", "print a table for people (piped: a row is one line) or json for programs: `table|json`")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if !slices.Contains([]string{"table", "json"}, p.output) {
			return usagef("--output %q: want table or json", p.output)
		}
		return nil
	}
	root.AddCommand(p.dbCommand(), p.issuerCommand(), p.certCommand(), p.keyCommand(), p.responderCommand(), p.crlCommand(), p.caSignCommand(),
		p.feedCommand(), p.fleetCommand(), p.dnsCommand(), p.approvalCommand(), p.approveCommand(), p.auditCommand(), p.doctorCommand(), p.configCommand(), p.manCommand(), p.versionCommand())
	explain(root)
	complete(root)
	return root
}

// noun is a command that only holds verbs.
func noun(name, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: name, Short: short, Args: cobra.ArbitraryArgs, RunE: nounOnly}
	c.AddCommand(verbs...)
	return c
}

func nounOnly(cmd *cobra.Command, args []string) error {
	names := []string{}
	for _, verb := range cmd.Commands() {
		if verb.IsAvailableCommand() && verb.Name() != "completion" {
			names = append(names, verb.Name())
		}
	}
	known := strings.Join(names, ", ")
	if len(args) > 0 {
		return usagef("%s: no %q here%s (want one of %s)", cmd.CommandPath(), args[0], meant(cmd, args[0], ""), known)
	}
	return usagef("%s: want one of %s", cmd.CommandPath(), known)
}

// verb makes a command that does something.
func (p *program) verb(use, short, example string, args cobra.PositionalArgs, run func(ctx context.Context, args []string) error) *cobra.Command {
	lines := strings.Split(strings.TrimSpace(example), "\n")
	for i, line := range lines {
		lines[i] = "  " + strings.TrimSpace(line)
	}
	return &cobra.Command{
		Use: use, Short: short, Example: strings.Join(lines, "\n"), Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			p.started = true
			return run(cmd.Context(), args)
		},
	}
}

// require marks flags that a verb cannot do without.
func require(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // no such flag: a slip in this program
		}
	}
}

// change holds the flags of the verbs that change something.
type change struct {
	apply bool
	why   string
}

func (c *change) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.apply, "apply", false, "do it; without it the plan is shown and nothing is done")
	cmd.Flags().StringVar(&c.why, "why", "", "the `REASON` for people, kept in the audit")
}

// act names who does it: the user of the operating system, and through whom.
func (c *change) act() (db.Act, error) {
	name := ""
	u, err := user.Current()
	if err != nil {
		return db.Act{}, fmt.Errorf("finding out who you are for the audit: %w", err)
	}
	name = u.Username
	if by := sudoUser(); by != "" && by != name {
		name = by + " as " + name
	}
	return db.Act{User: name, Why: c.why}, nil
}

// store opens the database of the configuration, which must be of the role, and
// refuses a schema that this program does not know.
func (p *program) store(ctx context.Context, role migrations.Role) (*db.Store, *config, error) {
	cfg, err := p.config()
	if err != nil {
		return nil, nil, err
	}
	store, err := cfg.store(ctx, role)
	return store, cfg, err
}

func (c *config) store(ctx context.Context, role migrations.Role) (*db.Store, error) {
	if err := c.wantRole(role); err != nil {
		return nil, err
	}
	store, err := db.Open(ctx, c.Database.settings())
	if err != nil {
		return nil, err
	}
	if err := store.Ping(ctx); err != nil {
		store.Close()
		return nil, err
	}
	if err := store.CheckSchema(ctx, string(role)); err != nil {
		store.Close()
		return nil, err
	}
	return store, nil
}

// atMaster runs a verb on the master's database.
func (p *program) atMaster(ctx context.Context, do func(*db.Store, *config) error) error {
	store, cfg, err := p.store(ctx, migrations.Master)
	if err != nil {
		return err
	}
	defer store.Close()
	return do(store, cfg)
}

// issuerNamed finds an issuer by the staff's name for it.
func issuerNamed(ctx context.Context, store *db.Store, name string) (db.Issuer, error) {
	issuers, err := store.Issuers(ctx)
	if err != nil {
		return db.Issuer{}, err
	}
	names := make([]string, len(issuers))
	for i, issuer := range issuers {
		if issuer.Name == name {
			return issuer, nil
		}
		names[i] = issuer.Name
	}
	if len(names) == 0 {
		return db.Issuer{}, fmt.Errorf("there is no issuer yet: ocspctl issuer add")
	}
	return db.Issuer{}, fmt.Errorf("there is no issuer %q: want one of %s", name, strings.Join(names, ", "))
}

func (p *program) versionCommand() *cobra.Command {
	return p.verb("version", "print version and build", "ocspctl version", cobra.NoArgs, func(context.Context, []string) error {
		return p.print(map[string]string{"version": boot.Version()}, func(t *table) { t.line("ocspctl " + boot.Version()) })
	})
}
