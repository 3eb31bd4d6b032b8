package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/publish"

	"github.com/spf13/cobra"
)

// keySetInForce reads the master's key set and verifies it under the pinned root.
func (p *program) keySetInForce(ctx context.Context, store *masterdb.DB, cfg *config.Config) (*feed.KeySet, error) {
	root, err := cfg.Feed.Verifier()
	if err != nil {
		return nil, err
	}
	set, _, err := feed.StoredKeySet(ctx, store, root.Name(), root)
	if errors.Is(err, db.ErrNotFound) {
		return nil, errors.New("the master has no key set: have the feed root sign one (ocspctl feed keys sign) and bring it in (ocspctl feed keys publish): see docs/feed-keys.md")
	}
	return set, err
}

// signCorrection signs what the second person agrees to, with this person's key.
func (p *program) signCorrection(ctx context.Context, store *masterdb.DB, cfg *config.Config, id int64, file string) ([]db.SignedCorrection, error) {
	a, err := store.Approval(ctx, id)
	if err != nil {
		return nil, err
	}
	if a.Act != masterdb.ApprovalCorrect {
		return nil, cli.Usagef("--key: request %d is no correction: there is nothing to sign", id)
	}
	set, err := p.keySetInForce(ctx, store, cfg)
	if err != nil {
		return nil, err
	}
	key, err := feed.LoadKey(file, set.Origin)
	if err != nil {
		return nil, err
	}
	issuers, err := store.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	for _, issuer := range issuers {
		if issuer.ID == a.Issuer {
			return set.SignCorrections(key, publish.CorrectionsOf(set.Origin, issuer.Key, a))
		}
	}
	return nil, fmt.Errorf("request %d is of issuer %d, which is not here", id, a.Issuer)
}

// correctionNotes are the notes of all corrections of the master.
func correctionNotes(ctx context.Context, store *masterdb.DB) ([][]byte, error) {
	var notes [][]byte
	err := store.Corrections(ctx, func(c db.Correction) error {
		notes = append(notes, c.Note)
		return nil
	})
	return notes, err
}

// unbelieved counts the master's corrections, and those that no site believes.
func (p *program) unbelieved(ctx context.Context, store *masterdb.DB, cfg *config.Config) (all, unbelieved int, err error) {
	set, err := p.keySetInForce(ctx, store, cfg)
	if err != nil {
		return 0, 0, err
	}
	notes, err := correctionNotes(ctx, store)
	return len(notes), set.Unbelieved(notes), err
}

// lostBy refuses a key set under which corrections would not verify any more.
func lostBy(ctx context.Context, store *masterdb.DB, inForce, next *feed.KeySet) error {
	notes, err := correctionNotes(ctx, store)
	if err != nil {
		return err
	}
	lost := inForce.Lost(notes, next)
	if len(lost) == 0 {
		return nil
	}
	return fmt.Errorf("under key set %d, %d corrections would not verify any more, such as that of serial %s: sites would not believe them; sign them anew first (ocspctl feed corrections resign), and publish this once every site has them",
		next.Number, len(lost), lost[0].Serial)
}

func (p *program) feedKeysRetireCommand() *cobra.Command {
	return p.Command("retire VERIFIER", "show how the next key set names a key that signs no more", `
		ocspctl feed keys retire ca.example/status+1a2b3c4d+AbC...`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			return p.atMaster(ctx, func(store *masterdb.DB, cfg *config.Config) error { return p.feedKeysRetire(ctx, store, cfg, args[0]) })
		})
}

// retired is a key as feed keys sign takes it.
type retiredView struct {
	Flag  string `json:"flag"`  // key or correct
	Value string `json:"value"` // VERIFIER,FROM,UNTIL,RETIRED
}

func (p *program) feedKeysRetire(ctx context.Context, store *masterdb.DB, cfg *config.Config, verifier string) error {
	set, err := p.keySetInForce(ctx, store, cfg)
	if err != nil {
		return err
	}
	view := retiredView{}
	name := func(flag string, keys []feed.FeedKey, of func() (*feed.Retired, error)) error {
		for _, key := range keys {
			if key.Verifier != verifier {
				continue
			}
			r, err := of()
			if err != nil {
				return err
			}
			view = retiredView{flag, fmt.Sprintf("%s,%s,%s,%s", key.Verifier, key.From.Format(time.RFC3339), key.Until.Format(time.RFC3339), showRetired(r))}
		}
		return nil
	}
	err = name("key", set.Keys, func() (*feed.Retired, error) {
		var last *feed.Retired
		err := store.SegmentNotes(ctx, func(note []byte) bool { last = feed.SealedBy(verifier, note); return last == nil })
		if err == nil && last == nil {
			err = errors.New("no segment that is kept here was sealed by this key: leave it out of the next key set")
		}
		return last, err
	})
	if err == nil {
		err = name("correct", set.Correct, func() (*feed.Retired, error) {
			notes, err := correctionNotes(ctx, store)
			made := set.MadeBy(verifier, notes)
			return &made, err
		})
	}
	if err == nil && view.Flag == "" {
		err = cli.Usagef("%q is none of the keys that key set %d names for the feed or for corrections (ocspctl feed show)", verifier, set.Number)
	}
	if err != nil {
		return err
	}
	return p.Print(view, func(t *cli.Table) { t.Line("--" + view.Flag + " " + view.Value) })
}

func (p *program) correctionsResignCommand() *cobra.Command {
	var c change
	var key, ban string
	cmd := p.Command("resign", "sign the corrections of a key that will be banned anew, with the key that follows", `
		ocspctl feed corrections resign --ban OLD --key new-correct.key
		ocspctl feed corrections resign --ban OLD --key new-correct.key --why 'the old key was stolen' --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *masterdb.DB, cfg *config.Config) error {
				return p.correctionsResign(ctx, store, cfg, c, ban, key)
			})
		})
	cmd.Long = `What a banned key signed counts no more: sites would revoke again what was corrected.
So before the set that bans a key for corrections is published, what it corrected is
signed anew with the key that follows, which the key set in force names, too, and the
sites take that. A correction is never changed: the new one is a row beside it. Compare
what is shown with the audit first: it must all stand there.`
	cmd.Flags().StringVar(&ban, "ban", "", "the `VERIFIER` of the key that will be banned")
	cmd.Flags().StringVar(&key, "key", "", "the `FILE` of the key that follows")
	c.flags(cmd)
	require(cmd, "ban", "key")
	return cmd
}

// correctionView is a correction as ocspctl shows it.
type correctionView struct {
	Issuer    string  `json:"issuer"`
	Serial    string  `json:"serial"`
	RevokedAt string  `json:"revoked_at"`
	Wrong     string  `json:"wrong"`
	NotAfter  *string `json:"not_after"` // the right end
}

func (p *program) correctionsResign(ctx context.Context, store *masterdb.DB, cfg *config.Config, c change, ban, file string) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	set, err := p.keySetInForce(ctx, store, cfg)
	if err != nil {
		return err
	}
	key, err := feed.LoadKey(file, set.Origin)
	if err != nil {
		return err
	}
	notes, err := correctionNotes(ctx, store)
	if err != nil {
		return err
	}
	issuers, err := store.Issuers(ctx)
	if err != nil {
		return err
	}
	now, err := store.Clock(ctx)
	if err != nil {
		return err
	}
	again := set.Lost(notes, set.Without(ban))
	rows, views := make([]db.Correction, len(again)), make([]correctionView, len(again))
	for i := range again {
		n := &again[i]
		n.CorrectedAt = now.Truncate(time.Second)
		rows[i] = db.Correction{Serial: n.Serial, RevokedAt: n.Was.RevokedAt, CorrectedAt: n.CorrectedAt}
		views[i] = correctionView{"", n.Serial.String(), cli.Stamp(n.Was.RevokedAt), string(n.Wrong), cli.StampOrNil(n.NotAfter)}
		for _, issuer := range issuers {
			if issuer.Key == n.Issuer {
				rows[i].IssuerID, views[i].Issuer = issuer.ID, issuer.Name
			}
		}
	}
	signed, err := set.SignCorrections(key, again)
	if err != nil {
		return err
	}
	for i := range signed {
		rows[i].Note = signed[i].Note
	}
	if c.apply {
		if err := store.ResignCorrections(ctx, rows, act); err != nil {
			return err
		}
	}
	result := struct {
		cli.Outcome
		Corrections []correctionView `json:"corrections"`
	}{cli.NewOutcome("feed corrections resign", c.apply, len(rows) > 0), views}
	return p.Print(result, func(t *cli.Table) {
		t.Row("ISSUER", "SERIAL", "REVOKED AT", "WRONG", "ENDS AT")
		for _, v := range views {
			t.Row(v.Issuer, v.Serial, v.RevokedAt, v.Wrong, cli.OrDash(v.NotAfter))
		}
		result.Outcome.Tell(t)
	})
}
