package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db/masterdb"
	"ocspfleet/sync/recovery"

	"github.com/spf13/cobra"
)

// lostFlags say which of a site's claims is entered.
type lostFlags struct{ config, issuer, serial string }

func (p *program) fleetLostCommand() *cobra.Command {
	var c change
	var f lostFlags
	cmd := p.Command("lost", "find what a site knows and the master lost; exit code 3 when there is something", `
		ocspctl fleet lost --site-config site-a.yaml
		ocspctl fleet lost --site-config site-a.yaml --issuer web-ca --serial 5f03a1 --why 'the holder confirms it' --apply
		ocspctl fleet lost --site-config site-a.yaml --why 'restored from the backup of 2026-11-20' --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			if (f.issuer == "") != (f.serial == "") {
				return cli.Usagef("--issuer and --serial go together")
			}
			return p.atMaster(ctx, func(store *masterdb.DB, cfg *config.Config) error { return p.fleetLost(ctx, store, cfg, c, f) })
		})
	cmd.Long = `Compares a site with a master that was restored from a backup, or a standby
that was promoted. What the feed's keys signed is listed first, with the command
that enters it: ocspctl feed recover. What stands in the site's rows alone is the
site's claim: of it permanent revocations alone are entered, with --apply, one by
name (--issuer, --serial) or all that two persons agree to (ocspctl approve),
within the hourly limit. The rest is in the CA's own list (ocspctl cert import).
What was corrected at the master is not lost. One that the master has as revoked at
another time stays as it is: take that back first (ocspctl cert correct). Do it for
every site, then begin a new epoch (ocspctl db epoch). The site's configuration is
one of ocspctl with role: site and any login that may read its database.`
	cmd.Flags().StringVar(&f.config, "site-config", "", "ocspctl's configuration for the site's database, in `FILE`")
	cmd.Flags().StringVar(&f.issuer, "issuer", "", "enter one certificate of the issuer `NAME`")
	cmd.Flags().StringVar(&f.serial, "serial", "", "its serial in hex, as listed (`HEX`)")
	c.flags(cmd)
	require(cmd, "site-config")
	return cmd
}

// lost is what fleet lost prints.
type lost struct {
	again
	Signed       *planView  `json:"signed"` // what ocspctl feed recover enters; null: nothing signed was found
	Note         string     `json:"note"`   // why there is nothing signed
	Certificates []lostView `json:"certificates"`
	Unsigned     []lostView `json:"unsigned"` // good or on hold: only listed
	Missing      []string   `json:"issuers"`  // that the site has and the master has not
}

func (p *program) fleetLost(ctx context.Context, master *masterdb.DB, cfg *config.Config, c change, f lostFlags) error {
	site, err := ctl.OpenSite(ctx, f.config)
	if err != nil {
		return fmt.Errorf("opening the site's database: %w", err)
	}
	defer site.Close()
	claims, missing, err := findClaims(ctx, master, site)
	if err != nil {
		return err
	}
	result := lost{Missing: append([]string{}, missing...)}
	history, note, err := keptHistory(ctx, master, site, cfg, f.config)
	if err != nil {
		return err
	}
	result.Note = note
	if history != nil {
		plan, err := recovery.Compare(ctx, master, history, f.config)
		if err == nil {
			err = claims.borne(history)
		}
		if err != nil {
			return err
		}
		if plan.Lost() {
			result.Signed = new(p.viewPlan(history, plan))
		}
	}
	lasting, others := claims.split()
	result.Certificates, result.Unsigned = viewLost(lasting), viewLost(others)
	if result.again, err = p.enterClaims(ctx, master, lasting, c, f); err != nil {
		return err
	}
	if err := p.Print(result, func(t *cli.Table) { result.tell(t, f.config) }); err != nil {
		return err
	}
	return result.left()
}

// enterClaims enters one claim, or those to which two persons have agreed.
func (p *program) enterClaims(ctx context.Context, master *masterdb.DB, claims []recovery.Row, c change, f lostFlags) (again, error) {
	var enter []recovery.Row
	for _, row := range claims {
		if row.Enters() && (f.serial == "" || row.Issuer.Name == f.issuer && row.Serial.String() == f.serial) {
			enter = append(enter, row)
		}
	}
	if f.serial == "" || !c.apply {
		return p.enterAgain(ctx, master, "fleet lost", masterdb.Recovery{From: f.config, Batches: recovery.Batches(enter)}, enter, c)
	}
	if len(enter) == 0 {
		return again{}, cli.Usagef("%s %s is not among the site's claims that can be entered", f.issuer, f.serial)
	}
	act, err := c.act()
	if err != nil {
		return again{}, err
	}
	batch := recovery.Batches(enter)[0]
	sum := sha256.Sum256([]byte(batch.Sum()))
	inserted, revoked, _, err := master.ImportBatch(ctx, batch.Issuer, batch.Rows, masterdb.ImportSource{Form: "site", File: "fleet lost", SHA256: hex.EncodeToString(sum[:]), Batch: 1}, act)
	return again{
		Requested: ctl.Requested{Outcome: cli.NewOutcome("fleet lost", true, true)}, Sum: batch.Sum(), Agreed: true, Entered: inserted + revoked,
	}, err
}

func (l lost) tell(t *cli.Table, config string) {
	if l.Signed == nil && len(l.Certificates)+len(l.Unsigned)+len(l.Missing) == 0 {
		t.Line("The master has every revocation that this site knows, and every certificate.")
	}
	for _, name := range l.Missing {
		t.Line("The site has issuer " + name + ", which is not here: ocspctl issuer add, then once more.")
	}
	if l.Note != "" {
		t.Line(l.Note)
	}
	if l.Signed != nil {
		l.Signed.tell(t)
		if len(l.Signed.Certificates) > 0 {
			t.Line("The feed's key signed these. To enter them: ocspctl feed recover --from " + config + " --why TEXT --apply")
		}
	}
	if len(l.Certificates) > 0 {
		t.Line(fmt.Sprintf("%d permanent revocations are the site's claim: no key signed them.", len(l.Certificates)))
		t.Row("ISSUER", "SERIAL", "BECOMES", "AT", "REASON", "HERE")
		tellLost(t, l.Certificates)
		for _, v := range l.Certificates {
			if !(masterdb.EffectHere{Effect: v.Effect}).Enters() {
				t.Line(fmt.Sprintf("%s %s the master says otherwise, and that stays: ocspctl cert correct, then once more.", v.Issuer, v.Serial))
			}
		}
	}
	if len(l.Unsigned) > 0 {
		t.Line(fmt.Sprintf("%d certificates, good or on hold, only the site's rows have: look them up in the CA's list (ocspctl cert import).", len(l.Unsigned)))
		tellLost(t, l.Unsigned)
	}
	if l.Sum != "" {
		t.Row("sum", l.Sum)
		l.again.tell(t)
	}
}

// left is exit code 3 while the master lacks something.
func (l lost) left() error {
	claims := int64(len(l.Certificates)) - l.Entered
	if l.Signed == nil && len(l.Unsigned)+len(l.Missing) == 0 && claims <= 0 {
		return nil
	}
	signed := 0
	if l.Signed != nil {
		signed = len(l.Signed.Certificates)
	}
	return cli.Wrongf("the master lost what this site knows: %d certificates that the feed's key signed, %d permanent revocations and %d others by the site's word", signed, claims, len(l.Unsigned))
}
