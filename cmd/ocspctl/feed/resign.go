package feed

import (
	"context"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/keyset"
	"ocspfleet/db"
	"ocspfleet/sync/feed"
)

// resign is feed corrections resign.
type resign struct {
	cli.Change
	Ban string `flag:"ban,required" help:"the <VERIFIER> of the key that will be banned"`
	Key string `flag:"key,required" help:"the <FILE> of the key that follows"`
}

func (resign) Doc() cli.Doc {
	return cli.Doc{
		Name: "resign", Short: "sign the corrections of a key that will be banned anew, with the key that follows",
		Long: `What a banned key signed counts no more: sites would revoke again what was corrected.
So before the set that bans a key for corrections is published, what it corrected is
signed anew with the key that follows, which the key set in force names, too, and the
sites take that. A correction is never changed: the new one is a row beside it. Compare
what is shown with the audit first: it must all stand there.`,
		Example: `
		ocspctl feed corrections resign --ban OLD --key new-correct.key
		ocspctl feed corrections resign --ban OLD --key new-correct.key --why 'the old key was stolen' --apply`,
	}
}

func (v *resign) Run(ctx context.Context, m *ctl.Master) error {
	act, err := ctl.Act(v.Change)
	if err != nil {
		return err
	}
	set, err := keyset.InForce(ctx, m.Store, m.Config)
	if err != nil {
		return err
	}
	key, err := feed.LoadKey(v.Key, set.Origin)
	if err != nil {
		return err
	}
	notes, err := keyset.Corrections(ctx, m.Store)
	if err != nil {
		return err
	}
	issuers, err := m.Store.Issuers(ctx)
	if err != nil {
		return err
	}
	now, err := m.Store.Clock(ctx)
	if err != nil {
		return err
	}
	byKey := map[[32]byte]db.Issuer{}
	for _, issuer := range issuers {
		byKey[issuer.Key] = issuer
	}
	again := set.Lost(notes, set.Without(v.Ban))
	for i := range again {
		again[i].CorrectedAt = now.Truncate(time.Second)
	}
	signed, err := set.SignCorrections(key, again)
	if err != nil {
		return err
	}
	if v.Apply {
		rows := make([]db.Correction, len(again))
		for i, n := range again {
			rows[i] = db.Correction{IssuerID: byKey[n.Issuer].ID, Serial: n.Serial, RevokedAt: n.Was.RevokedAt, CorrectedAt: n.CorrectedAt, Note: signed[i].Note}
		}
		if err := m.Store.ResignCorrections(ctx, rows, act); err != nil {
			return err
		}
	}
	return m.ShowChange(v.Outcome(len(again) > 0), cli.List("corrections", again, func(n feed.CorrectionNote) cli.Record {
		return cli.Record{
			cli.F("issuer", "ISSUER", byKey[n.Issuer].Name), cli.F("serial", "SERIAL", n.Serial), cli.F("revoked_at", "REVOKED AT", n.Was.RevokedAt),
			cli.F("wrong", "WRONG", n.Wrong), cli.F("not_after", "ENDS AT", n.NotAfter),
		}
	}))
}
