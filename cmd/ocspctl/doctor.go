package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/keyset"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/tables"
	"ocspfleet/hsm"
	"ocspfleet/migrations"
	"ocspfleet/ops/doctor"

	"github.com/spf13/cobra"
)

func (p *program) doctorCommand() *cobra.Command {
	var role, daemon, syncd string
	cmd := p.Command("doctor", "examine this machine, each finding with its fix; exit code 3 when something is wrong", `
		ocspctl doctor
		ocspctl doctor --config site-a/ocspctl.yaml --ocspd-config site-a/ocspd.yaml --ocspsyncd-config site-a/ocspsyncd.yaml
		ocspctl doctor --output json`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error { return p.doctor(ctx, role, daemon, syncd) })
	roleFlag(cmd, &role)
	cmd.Flags().StringVar(&daemon, "ocspd-config", config.OcspdFile, "at a site: look at ocspd as `FILE` configures it")
	cmd.Flags().StringVar(&syncd, "ocspsyncd-config", ocspsyncdConfig, "look at ocspsyncd, at a site also at the feed and its sources, as `FILE` configures them")
	return cmd
}

// finding is a line of the examination as ocspctl shows it.
type finding struct {
	Check string  `json:"check"`
	Level string  `json:"level"` // ok, warn or fail
	Text  string  `json:"text"`
	Fix   *string `json:"fix"`
}

func (p *program) doctor(ctx context.Context, roleName, daemon, syncd string) error {
	cfg, err := p.config()
	if err != nil {
		return err
	}
	if roleName == "" {
		roleName = cfg.Role
	}
	if err := cfg.WantRole(migrations.Role(roleName)); err != nil {
		return err
	}
	if roleName == string(migrations.Master) {
		return p.doctorAtMaster(ctx, cfg, syncd)
	}
	store, err := sitedb.Open(ctx, cfg.Database.Settings())
	if err != nil {
		return err
	}
	defer store.Close()
	site := doctor.Site{Store: store, Now: p.Now}
	if site.Feed, site.NoFeed, err = p.feedOf(ctx, syncd, store); err != nil {
		return err
	}
	place, err := config.PeekOcspd(daemon)
	switch {
	case errors.Is(err, fs.ErrNotExist) && daemon == config.OcspdFile:
		site.NoDaemon = daemon + " is not there"
	case err != nil:
		return err
	default:
		own, err := sitedb.Open(ctx, tables.Config{DSN: place.Database.DSN, PasswordFile: place.Database.PasswordFile, MaxConns: 1, Application: "ocspctl"})
		if err != nil {
			return fmt.Errorf("reading %s: %w", daemon, err)
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
		at, stateDir = append([]config.Token{place.Token}, place.MoreTokens...), place.StateDir
	}
	if at[0] != (config.Token{}) {
		site.Tokens = func(ctx context.Context) ([]doctor.Token, error) { return p.tokens(ctx, at, stateDir) }
	}
	return p.printFindings(site.Examine(ctx))
}

func (p *program) doctorAtMaster(ctx context.Context, cfg *config.Config, syncd string) error {
	store, err := masterdb.Open(ctx, cfg.Database.Settings())
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
	if master.Publisher, master.NoPublisher, err = p.publisherOf(ctx, syncd, store, cfg); err != nil {
		return err
	}
	return p.printFindings(master.Examine(ctx))
}

// tokens looks at each token in turn. An error of one does not hide the others.
func (p *program) tokens(ctx context.Context, at []config.Token, stateDir string) ([]doctor.Token, error) {
	var all []doctor.Token
	var faults []error
	for _, place := range at {
		seen, err := p.lookAt(ctx, place, stateDir)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		all = append(all, seen)
	}
	return all, errors.Join(faults...)
}

// lookAt opens a token, lists its keys and closes it.
func (p *program) lookAt(ctx context.Context, at config.Token, stateDir string) (doctor.Token, error) {
	settings, err := at.Settings(stateDir)
	if err != nil {
		return doctor.Token{}, err
	}
	settings.Logger = boot.NewLogger(p.Stderr, p.TTY, slog.LevelError)
	t, err := hsm.Open(ctx, settings)
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

func (p *program) printFindings(all []doctor.Result) error {
	views := make([]finding, len(all))
	counts := map[doctor.Level]int{}
	var ill []string
	for i, f := range all {
		views[i] = finding{f.Check, string(f.Level), f.Text, cli.TextOrNil(f.Fix)}
		counts[f.Level]++
		if f.Level == doctor.Fail {
			ill = append(ill, f.Check)
		}
	}
	err := p.Print(map[string]any{"well": doctor.Well(all), "findings": views}, func(t *cli.Table) {
		for _, v := range views {
			t.Row(map[string]string{"ok": "ok", "warn": "WARN", "fail": "FAIL"}[v.Level], v.Check, v.Text)
			if v.Fix != nil {
				t.Row(" ", " ", "  fix: "+*v.Fix)
			}
		}
		t.Line(fmt.Sprintf("%d ok, %d warnings, %d failures.", counts[doctor.OK], counts[doctor.Warn], counts[doctor.Fail]))
	})
	if err == nil && len(ill) > 0 {
		err = cli.Wrongf("not well: %s", strings.Join(slices.Compact(ill), ", "))
	}
	return err
}

// pins reads the certificates that ocspd pins.
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
