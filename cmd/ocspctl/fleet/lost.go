package fleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/reentry"
	"ocspfleet/db/masterdb"
	"ocspfleet/sync/recovery"
)

// lost is fleet lost.
type lost struct {
	cli.Change
	Site   string `flag:"site-config,required" help:"ocspctl's configuration for the site's database, in <FILE>"`
	Issuer string `flag:"issuer" help:"enter one certificate of the issuer <NAME>"`
	Serial string `flag:"serial" help:"its serial in hex, as listed (<HEX>)"`
}

func (lost) Doc() cli.Doc {
	return cli.Doc{
		Name: "lost", Short: "find what a site knows and the master lost; exit code 3 when there is something",
		Long: `Compares a site with a master that was restored from a backup, or a standby
that was promoted. What the feed's keys signed is listed first, with the command
that enters it: ocspctl feed recover. What stands in the site's rows alone is the
site's claim: of it permanent revocations alone are entered, with --apply, one by
name (--issuer, --serial) or all that two persons agree to (ocspctl approve),
within the hourly limit. The rest is in the CA's own list (ocspctl cert import).
What was corrected at the master is not lost. One that the master has as revoked at
another time stays as it is: take that back first (ocspctl cert correct). Do it for
every site, then begin a new epoch (ocspctl db epoch). The site's configuration is
one of ocspctl with role: site and any login that may read its database.`,
		Example: `
		ocspctl fleet lost --site-config site-a.yaml
		ocspctl fleet lost --site-config site-a.yaml --issuer web-ca --serial 5f03a1 --why 'the holder confirms it' --apply
		ocspctl fleet lost --site-config site-a.yaml --why 'restored from the backup of 2026-11-20' --apply`,
	}
}

// Check requires both names of a certificate.
func (v *lost) Check() error {
	if (v.Issuer == "") != (v.Serial == "") {
		return cli.Usagef("--issuer and --serial go together")
	}
	return nil
}

// losses are what a site knows and the master lost.
type losses struct {
	signed   *reentry.Plan  // for ocspctl feed recover; nil: nothing signed was found
	note     string         // why there is nothing signed
	lasting  []recovery.Row // permanent revocations: the site's claims
	unsigned []recovery.Row // good or on hold: only listed
	missing  []string       // issuers that the site has and the master has not
}

func (v *lost) Run(ctx context.Context, m *ctl.Master) error {
	found, err := v.find(ctx, m)
	if err != nil {
		return err
	}
	outcome, err := v.enter(ctx, m.Store, found.lasting)
	if err != nil {
		return err
	}
	signed := any(nil)
	if found.signed != nil {
		signed = found.signed.Fields()
	}
	if err := m.Show(cli.Quiet(outcome), cli.Record{
		cli.F("signed", "", signed), cli.F("note", "", found.note),
		cli.F("certificates", "", cli.Records(found.lasting, reentry.Row)), cli.F("unsigned", "", cli.Records(found.unsigned, reentry.Row)), cli.F("issuers", "", found.missing),
	}, cli.Said(func(t *cli.Table) { found.tell(t, v.Site) }), cli.Said(outcome.Tell)); err != nil {
		return err
	}
	return found.left(outcome.Entered)
}

func (v *lost) find(ctx context.Context, m *ctl.Master) (losses, error) {
	var l losses
	site, err := ctl.OpenSite(ctx, v.Site)
	if err != nil {
		return l, fmt.Errorf("opening the site's database: %w", err)
	}
	defer site.Close()
	var claims claims
	if claims, l.missing, err = findClaims(ctx, m.Store, site); err != nil {
		return l, err
	}
	history, note, err := keptHistory(ctx, m.Store, site, m.Config, v.Site)
	if err != nil {
		return l, err
	}
	l.note = note
	if history != nil {
		plan, err := recovery.Compare(ctx, m.Store, history, v.Site)
		if err == nil {
			err = claims.borne(history)
		}
		if err != nil {
			return l, err
		}
		if plan.Lost() {
			l.signed = &reentry.Plan{Plan: plan, History: history}
		}
	}
	l.lasting, l.unsigned = claims.split()
	return l, nil
}

// enter enters one claim, or those to which two persons have agreed.
func (v *lost) enter(ctx context.Context, master *masterdb.DB, claims []recovery.Row) (reentry.Outcome, error) {
	var rows []recovery.Row
	for _, row := range claims {
		if row.Enters() && (v.Serial == "" || row.Issuer.Name == v.Issuer && row.Serial.String() == v.Serial) {
			rows = append(rows, row)
		}
	}
	if v.Serial == "" || !v.Apply {
		return reentry.Enter(ctx, master, masterdb.Recovery{From: v.Site, Batches: recovery.Batches(rows)}, rows, v.Change)
	}
	if len(rows) == 0 {
		return reentry.Outcome{}, cli.Usagef("%s %s is not among the site's claims that can be entered", v.Issuer, v.Serial)
	}
	act, err := ctl.Act(v.Change)
	if err != nil {
		return reentry.Outcome{}, err
	}
	batch := recovery.Batches(rows)[0]
	sum := sha256.Sum256([]byte(batch.Sum()))
	inserted, revoked, _, err := master.ImportBatch(ctx, batch.Issuer, batch.Rows, masterdb.ImportSource{Form: "site", File: "fleet lost", SHA256: hex.EncodeToString(sum[:]), Batch: 1}, act)
	return reentry.Outcome{Requested: ctl.Requested{Outcome: v.Outcome(true)}, Sum: batch.Sum(), Agreed: true, Entered: inserted + revoked}, err
}

func (l losses) tell(t *cli.Table, config string) {
	if l.signed == nil && len(l.lasting)+len(l.unsigned)+len(l.missing) == 0 {
		t.Line("The master has every revocation that this site knows, and every certificate.")
	}
	for _, name := range l.missing {
		t.Line("The site has issuer " + name + ", which is not here: ocspctl issuer add, then once more.")
	}
	if l.note != "" {
		t.Line(l.note)
	}
	if l.signed != nil {
		l.signed.Tell(t)
		if len(l.signed.Enter) > 0 {
			t.Line("The feed's key signed these. To enter them: ocspctl feed recover --from " + config + " --why TEXT --apply")
		}
	}
	if len(l.lasting) > 0 {
		t.Linef("%d permanent revocations are the site's claim: no key signed them.", len(l.lasting))
		reentry.Header(t)
		reentry.TellRows(t, l.lasting)
		for _, row := range l.lasting {
			if !row.Enters() {
				t.Linef("%s %s the master says otherwise, and that stays: ocspctl cert correct, then once more.", row.Issuer.Name, row.Serial)
			}
		}
	}
	if len(l.unsigned) > 0 {
		t.Linef("%d certificates, good or on hold, only the site's rows have: look them up in the CA's list (ocspctl cert import).", len(l.unsigned))
		reentry.TellRows(t, l.unsigned)
	}
}

// left returns exit code 3 while the master lacks something.
func (l losses) left(entered int64) error {
	claims := int64(len(l.lasting)) - entered
	if l.signed == nil && len(l.unsigned)+len(l.missing) == 0 && claims <= 0 {
		return nil
	}
	signed := 0
	if l.signed != nil {
		signed = len(l.signed.Enter)
	}
	return cli.Wrongf("the master lost what this site knows: %d certificates that the feed's key signed, %d permanent revocations and %d others by the site's word", signed, claims, len(l.unsigned))
}
