package doctor

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/keyset"
	"ocspfleet/cmd/ocspctl/internal/settings"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/tables"
	"ocspfleet/hsm"
	"ocspfleet/migrations"
	"ocspfleet/ops/config"
	"ocspfleet/ops/doctor"
)

// examine is doctor.
type examine struct {
	Role      string `flag:"role" help:"what the database is: <master|site> (default: role of the configuration)"`
	Ocspd     string `flag:"ocspd-config" help:"at a site: look at ocspd as <FILE> configures it"`
	Ocspsyncd string `flag:"ocspsyncd-config" help:"look at ocspsyncd, at a site also at the feed and its sources, as <FILE> configures them"`
}

// Verb returns the verb doctor.
func Verb() cli.Verb { return &examine{Ocspd: settings.OcspdFile, Ocspsyncd: ocspsyncdConfig} }

func (examine) Doc() cli.Doc {
	return cli.Doc{
		Name: "doctor", Short: "examine this machine, each finding with its fix; exit code 3 when something is wrong",
		Long: `At a site: database, schema, subscription, copy and its age, clocks, token and keys,
the certificate of each issuer (key, chain, use, life), the rights of ocspd's
login, and its two ports. Where ocspsyncd is configured to follow the signed feed
(--ocspsyncd-config): the pinned root and its key set, each source as this site
reaches it (its TLS key, whether it knows this site's, how fresh it is), the newest
checkpoint, the files kept, the peers, and the clock against the master's. At the
master: head, rows, heartbeat, PostgreSQL's settings, slots, sessions that hold the
head, issuers, the sites' certificates, and the zone of their addresses with our key
there (by an update that does nothing). It changes nothing. A warning is not yet an
error: exit code 3 only on a failure.`,
		Example: `
		ocspctl doctor
		ocspctl doctor --config site-a/ocspctl.yaml --ocspd-config site-a/ocspd.yaml --ocspsyncd-config site-a/ocspsyncd.yaml
		ocspctl doctor --output json`,
	}
}

func (v *examine) Run(ctx context.Context, p *cli.Program) error {
	cfg, err := ctl.Load(p)
	if err != nil {
		return err
	}
	role := migrations.Role(cmp.Or(v.Role, cfg.Role))
	if err := cfg.WantRole(role); err != nil {
		return err
	}
	if role == migrations.Master {
		return v.atMaster(ctx, p, cfg)
	}
	store, err := sitedb.Open(ctx, cfg.DatabaseSettings())
	if err != nil {
		return err
	}
	defer store.Close()
	site := doctor.Site{Store: store, Now: p.Now}
	if site.Feed, site.NoFeed, err = feedOf(ctx, p, v.Ocspsyncd, store); err != nil {
		return err
	}
	place, err := settings.PeekOcspd(v.Ocspd)
	switch {
	case errors.Is(err, fs.ErrNotExist) && v.Ocspd == settings.OcspdFile:
		site.NoDaemon = v.Ocspd + " is not there"
	case err != nil:
		return err
	default:
		own, err := sitedb.Open(ctx, tables.Config{DSN: place.Database.DSN, PasswordFile: place.Database.PasswordFile, MaxConns: 1, Application: "ocspctl"})
		if err != nil {
			return fmt.Errorf("reading %s: %w", v.Ocspd, err)
		}
		defer own.Close()
		site.Daemon = &doctor.Daemon{Store: own, Listen: place.Listen, Admin: place.Admin, Pins: pinsOf(place)}
	}
	at := []config.Token{cfg.Token}
	stateDir, err := cfg.StateFolder()
	if err != nil {
		return err
	}
	if site.Daemon != nil && (cfg.Token == config.Token{} || len(place.MoreTokens) > 0) {
		at, stateDir = nil, place.StateDir
		for _, token := range place.Tokens() {
			at = append(at, token.Token)
		}
	}
	if at[0] != (config.Token{}) {
		site.Tokens = func(ctx context.Context) ([]doctor.Token, error) { return tokens(ctx, p, at, stateDir) }
	}
	return show(p, site.Examine(ctx))
}

func (v *examine) atMaster(ctx context.Context, p *cli.Program, cfg *settings.Settings) error {
	store, err := masterdb.Open(ctx, cfg.DatabaseSettings())
	if err != nil {
		return err
	}
	defer store.Close()
	master := doctor.Master{Store: store, Now: p.Now}
	if cfg.DNS.Set() {
		master.Zone = func(ctx context.Context) (string, error) { return examineZone(ctx, cfg.DNS, p.Now) }
	}
	if cfg.Feed.Root != "" {
		master.Corrections = func(ctx context.Context) (int, int, error) { return keyset.Unbelieved(ctx, store, cfg) }
		master.Forks = func(ctx context.Context) ([]doctor.Fork, error) { return keyset.Forks(ctx, store, cfg) }
	}
	if master.Publisher, master.NoPublisher, err = publisherOf(ctx, v.Ocspsyncd, store, cfg); err != nil {
		return err
	}
	return show(p, master.Examine(ctx))
}

// tokens reads each token in turn. An error of one does not hide the others.
func tokens(ctx context.Context, p *cli.Program, at []config.Token, stateDir string) ([]doctor.Token, error) {
	var all []doctor.Token
	var faults []error
	for _, place := range at {
		seen, err := readToken(ctx, p, place, stateDir)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		all = append(all, seen)
	}
	return all, errors.Join(faults...)
}

// readToken opens a token, lists its keys and closes it.
func readToken(ctx context.Context, p *cli.Program, at config.Token, stateDir string) (doctor.Token, error) {
	open, err := settings.Token(at, stateDir)
	if err != nil {
		return doctor.Token{}, err
	}
	t, err := hsm.Open(ctx, hsm.Config{Config: open, Logger: boot.NewLogger(p.Stderr, p.TTY, slog.LevelError)})
	if err != nil {
		return doctor.Token{}, err
	}
	infos, err := t.Keys()
	odd, oddErr := t.Oddities()
	if err := errors.Join(err, oddErr, t.Close()); err != nil {
		return doctor.Token{}, err
	}
	seen := doctor.Token{Name: t.Info().Label, Mechanisms: t.Info().Mechanisms, Most: t.Info().MostOpen, Odd: odd}
	for _, k := range infos {
		seen.Keys = append(seen.Keys, doctor.Key{Label: k.Label, Kind: string(k.Kind), Hash: k.Fingerprint})
	}
	return seen, nil
}

// levels are the words for people.
var levels = map[doctor.Level]string{doctor.OK: "ok", doctor.Warn: "WARN", doctor.Fail: "FAIL"}

// show prints the results; exit code 3 if something is wrong.
func show(p *cli.Program, all []doctor.Result) error {
	counts := map[doctor.Level]int{}
	var ill []string
	for _, r := range all {
		counts[r.Level]++
		if r.Level == doctor.Fail {
			ill = append(ill, r.Check)
		}
	}
	if err := p.Show(cli.Record{cli.F("well", "", doctor.Well(all)), cli.F("findings", "", cli.Records(all, record))}, cli.Said(func(t *cli.Table) {
		for _, r := range all {
			t.Row(levels[r.Level], r.Check, r.Text)
			if r.Fix != "" {
				t.Row(" ", " ", "  fix: "+r.Fix)
			}
		}
		t.Linef("%d ok, %d warnings, %d failures.", counts[doctor.OK], counts[doctor.Warn], counts[doctor.Fail])
	})); err != nil {
		return err
	}
	if len(ill) > 0 {
		return cli.Wrongf("not well: %s", strings.Join(slices.Compact(ill), ", "))
	}
	return nil
}

func record(r doctor.Result) cli.Record {
	return cli.Record{cli.F("check", "", r.Check), cli.F("level", "", string(r.Level)), cli.F("text", "", r.Text), cli.F("fix", "", cli.OrNil(r.Fix))}
}

// examineZone asks the zone for doctor.
func examineZone(ctx context.Context, d config.DNS, now func() time.Time) (string, error) {
	z, err := settings.OpenZone(d, now)
	if err != nil {
		return "", err
	}
	serial, err := z.Serial(ctx)
	if err != nil {
		return "", err
	}
	if err := z.CheckKey(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("zone %s has serial %d at %s, which takes our key", z.Name(), serial, z.Server()), nil
}

// pinsOf reads the certificates that ocspd pins.
func pinsOf(d config.Ocspd) []doctor.Pin {
	pins := make([]doctor.Pin, len(d.Issuers))
	for i, issuer := range d.Issuers {
		if issuer.Certificate != "" {
			pins[i].Name = issuer.Certificate
			certificate, err := ctl.ReadCertificate(issuer.Certificate)
			if pins[i].Err = err; err == nil {
				pins[i].Fingerprint = sha256.Sum256(certificate.Raw)
			}
			continue
		}
		pins[i].Name = issuer.Fingerprint
		sum, err := hex.DecodeString(strings.ReplaceAll(issuer.Fingerprint, ":", ""))
		if err != nil || len(sum) != sha256.Size {
			pins[i].Err = errors.New("is no SHA-256 in hexadecimal digits")
			continue
		}
		pins[i].Fingerprint = [sha256.Size]byte(sum)
	}
	return pins
}
