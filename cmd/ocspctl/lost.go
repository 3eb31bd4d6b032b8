package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"ocspfleet/db"
	"ocspfleet/migrations"
)

// lostBatch is how many revocations are compared, and entered, at once.
const lostBatch = 5000

func (p *program) fleetLostCommand() *cobra.Command {
	var c change
	var site string
	cmd := p.verb("lost", "find revocations that a site knows and the master lost; exit code 3 when there are some", `
		ocspctl fleet lost --site-config site-a.yaml
		ocspctl fleet lost --site-config site-a.yaml --why 'restored from the backup of 2026-11-20' --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.fleetLost(ctx, store, c, site) })
		})
	cmd.Long = `Reads every permanent revocation of an unexpired certificate that a site has or
remembers, and lists those that the master does not have, because it was restored from an
older backup. What was corrected at the master is not lost. With --apply they are
entered at the master as the site has them; do it for every site, then begin a
new epoch (ocspctl db epoch). One that the master has as revoked at another time
stays as it is: take that back first (ocspctl cert correct), then repeat this. The site's configuration is one of ocspctl with
role: site and any login that may read its database.`
	cmd.Flags().StringVar(&site, "site-config", "", "ocspctl's configuration for the site's database, in `FILE`")
	c.flags(cmd)
	require(cmd, "site-config")
	return cmd
}

func (p *program) fleetLost(ctx context.Context, master *db.Store, c change, siteConfig string) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	there := *p
	there.configPath = siteConfig
	site, _, err := there.store(ctx, migrations.Site)
	if err != nil {
		return fmt.Errorf("opening the site's database: %w", err)
	}
	defer site.Close()
	lost, views, err := findLost(ctx, master, site)
	if err != nil {
		return err
	}
	entered := 0
	if c.apply {
		if entered, err = enterLost(ctx, master, lost, act); err != nil {
			return err
		}
	}
	result := struct {
		outcome
		Certificates []certificate `json:"certificates"` // as the site has them
		Entered      int           `json:"entered"`
	}{outcome{"fleet lost", c.apply, len(views) > 0}, views, entered}
	err = p.print(result, func(t *table) {
		t.row("ISSUER", "SERIAL", "REVOKED AT", "REASON")
		for _, v := range views {
			t.row(v.Issuer, v.Serial, orDash(v.RevokedAt), orDash(v.Reason))
		}
		if len(views) == 0 {
			t.line("The master has every revocation that this site knows.")
			return
		}
		t.line(strconv.Itoa(len(views)) + " permanent revocations are at the site and not at the master.")
		if c.apply && entered < len(views) {
			t.line(strconv.Itoa(len(views)-entered) + " of them the master has as revoked at another time: ocspctl cert correct, then once more.")
		}
		result.tell(t)
	})
	if err == nil && !c.apply && len(views) > 0 {
		err = wrongf("the master lost %d permanent revocations", len(views))
	}
	return err
}

// lostRows are the lost revocations of one issuer.
type lostRows struct {
	issuer db.Issuer // at the master
	rows   []db.Row
}

// findLost compares a site's permanent revocations with the master, issuer by
// issuer: their numbers may differ, their keys do not.
func findLost(ctx context.Context, master, site *db.Store) ([]lostRows, []certificate, error) {
	atMaster, err := master.Issuers(ctx)
	if err != nil {
		return nil, nil, err
	}
	atSite, err := site.Issuers(ctx)
	if err != nil {
		return nil, nil, err
	}
	var all []lostRows
	views := []certificate{}
	for _, issuer := range atSite {
		at := slices.IndexFunc(atMaster, func(i db.Issuer) bool { return i.Key == issuer.Key })
		if at < 0 {
			return nil, nil, fmt.Errorf("the master has no issuer %q, which the site has: ocspctl issuer add it first", issuer.Name)
		}
		lost := lostRows{issuer: atMaster[at]}
		var batch []db.Row
		compare := func() error {
			rows, err := master.Lost(ctx, lost.issuer.ID, batch)
			lost.rows, batch = append(lost.rows, rows...), nil
			return err
		}
		err := site.Known(ctx, issuer.ID, func(serial db.Serial, s db.Status) error {
			batch = append(batch, db.Row{Serial: slices.Clone(serial), Status: s})
			if len(batch) < lostBatch {
				return nil
			}
			return compare()
		})
		if err == nil {
			err = compare()
		}
		if err != nil {
			return nil, nil, err
		}
		for _, row := range lost.rows {
			views = append(views, showStatus(lost.issuer.Name, row.Serial, row.Status))
		}
		all = append(all, lost)
	}
	return all, views, nil
}

// enterLost enters them at the master, in batches as an import does.
func enterLost(ctx context.Context, master *db.Store, all []lostRows, act db.Act) (int, error) {
	entered := 0
	for _, lost := range all {
		sum := sha256.New()
		for _, row := range lost.rows {
			sum.Write(db.AppendCertificate(nil, lost.issuer.ID, row.Serial, row.Status))
		}
		source := db.ImportSource{Form: "site", File: "fleet lost", SHA256: hex.EncodeToString(sum.Sum(nil))}
		for batch := range slices.Chunk(lost.rows, lostBatch) {
			source.Batch++
			inserted, revoked, _, err := master.ImportBatch(ctx, lost.issuer.ID, batch, source, act)
			if err != nil {
				return entered, err
			}
			entered += int(inserted + revoked)
		}
	}
	return entered, nil
}
