package devfleet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"ocspfleet/integration/testkit/pgserver"
	"ocspfleet/ops/config"
)

// startPostgres starts a server that outlives us. Its folder keeps password and
// settings for the next start.
func (o *Options) startPostgres(ctx context.Context, p part) (*pgserver.Server, error) {
	settings := map[string]string{}
	if p.owner() == "master" {
		// A site that stays away must not fill the master's disk: it is re-seeded.
		settings["max_slot_wal_keep_size"] = "1GB"
	} else {
		// How soon a site tries again when the master was away; 5s by default.
		settings["wal_retrieve_retry_interval"] = "1s"
	}
	return pgserver.Start(ctx, pgserver.Config{Dir: p.folder, Port: p.port, Settings: settings, Detached: true})
}

// makeDatabase starts the PostgreSQL of the master or of a site, makes the
// database, migrates it and writes the configuration to do more as superuser. It
// returns the path of that and the superuser's DSN.
func (o *Options) makeDatabase(ctx context.Context, p part) (admins, dsn string, err error) {
	if err := os.MkdirAll(o.etc(p.owner()), 0o700); err != nil {
		return "", "", fmt.Errorf("making the configuration's folder: %w", err)
	}
	server, err := o.startPostgres(ctx, p)
	if err != nil {
		return "", "", err
	}
	dsn = server.DSN(database)
	admin, err := adminLogin(dsn, p.port)
	if err != nil {
		return "", "", err
	}
	admin.passwordFile = filepath.Join(o.etc(p.owner()), "admin.password")
	if err := os.WriteFile(admin.passwordFile, []byte(admin.password+"\n"), 0o600); err != nil {
		return "", "", fmt.Errorf("writing a password: %w", err)
	}
	programs, err := pgserver.Find()
	if err != nil {
		return "", "", err
	}
	_, err = run(ctx, []string{"PGPASSWORD=" + admin.password}, filepath.Join(programs, "createdb"),
		"--host", "127.0.0.1", "--port", fmt.Sprint(p.port), "--username", admin.user, database)
	if err != nil {
		return "", "", err
	}
	role := config.RoleSite
	if p.owner() == "master" {
		role = config.RoleMaster
	}
	admins, err = o.writeConfig(p.owner(), "admin", "ocspctl db: the superuser, to migrate and to make logins.",
		config.Ocspctl{Role: role, Database: admin.database()})
	if err != nil {
		return "", "", err
	}
	_, err = o.ctl(ctx, admins, "db", "init", "--role", role)
	return admins, dsn, err
}

// ctl runs ocspctl with one of the fleet's configurations.
func (o *Options) ctl(ctx context.Context, config string, args ...string) (string, error) {
	out, err := run(ctx, nil, filepath.Join(o.Bin, "ocspctl"), append([]string{"--config", config}, args...)...)
	return strings.TrimRight(out, "\n"), err
}

// addLogin makes the login's user in the database that admin configures.
func (o *Options) addLogin(ctx context.Context, admin string, l login) error {
	_, err := o.ctl(ctx, admin, "db", "user", "add", l.user, "--role", l.group, "--password-file", l.passwordFile)
	return err
}

// makeMaster makes the master's database with its logins and writes the
// configuration of what works there.
func (f *Fleet) makeMaster(ctx context.Context, a *authority) error {
	o, port := &f.opts, Ports(f.opts.BasePort).masterPostgres()
	admin, dsn, err := o.makeDatabase(ctx, o.database("master", port))
	if err != nil {
		return fmt.Errorf("making the master's database: %w", err)
	}
	staff, err := o.newLogin("master", "ocspctl", "ocspctl", "operator", port)
	if err != nil {
		return err
	}
	publisher, err := o.newLogin("master", "ocspsyncd", "ocspsyncd", "publisher", port)
	if err != nil {
		return err
	}
	approver, err := o.newLogin("master", "approver", "approver", "operator", port)
	if err != nil {
		return err
	}
	logins := []login{staff, publisher, approver}
	for i := range o.Sites {
		if o.mode(i) != syncLogical {
			continue
		}
		replica, err := o.replicaLogin(i)
		if err != nil {
			return err
		}
		logins = append(logins, replica)
	}
	for _, l := range logins {
		if err := o.addLogin(ctx, admin, l); err != nil {
			return fmt.Errorf("making the master's logins: %w", err)
		}
	}
	// Load tests and demonstrations revoke by the hundred, alone: a real fleet keeps
	// the default of 100 an hour, beyond which a second person must agree.
	if _, err := o.ctl(ctx, admin, "db", "limit", "--revocations-per-hour", "100000000", "--why", "a fleet for tests and demonstrations", "--apply"); err != nil {
		return fmt.Errorf("raising the limit of revocations: %w", err)
	}
	tool, err := o.writeConfig("master", "ocspctl", `The staff's tool at the master: login in group ocsp_operator. The CA's keys sign the
# sites' responder certificates; in production they lie in a token. The same as in
# ca/ca.yaml: here CA and master are one desk.`,
		config.Ocspctl{Role: config.RoleMaster, Database: staff.database(), Issuers: a.configs(), Feed: staffFeed(f.masterFeed())})
	if err != nil {
		return err
	}
	_, err = o.writeConfig("master", "ocspsyncd", `Production wants a heartbeat of 5s and feed.confirm of 60s; here the copies' age is to
# be seen at once. What was signed last lies in feed.state, outside the database.`,
		config.Ocspsyncd{Role: config.RoleMaster, Database: publisher.database(), Heartbeat: heartbeat, Admin: address(Ports(o.BasePort).masterSync()), Feed: f.masterFeed()})
	if err != nil {
		return err
	}
	second, err := o.writeConfig("master", "approver", "The second person's: approves what another operator asked for.",
		config.Ocspctl{Role: config.RoleMaster, Database: approver.database(), Feed: staffFeed(f.masterFeed())})
	if err != nil {
		return err
	}
	f.OcspctlConfig, f.ApproverConfig = f.Rel(tool), f.Rel(second)
	f.Master.DSN, f.Master.SuperuserDSN = staff.fullDSN(), dsn
	return f.publishKeys(ctx, a, tool)
}

// replicaLogin is how site i reads at the master. Its password lies at the site,
// which may not have a folder yet.
func (o *Options) replicaLogin(i int) (login, error) {
	if err := os.MkdirAll(o.etc(siteName(i)), 0o700); err != nil {
		return login{}, fmt.Errorf("making the configuration's folder: %w", err)
	}
	return o.newLogin(siteName(i), "master", replicaUser(i), "replica", Ports(o.BasePort).masterPostgres())
}

// replicaUser names site i at the master; a hyphen would need quoting.
func replicaUser(i int) string { return strings.ReplaceAll(siteName(i), "-", "_") }
