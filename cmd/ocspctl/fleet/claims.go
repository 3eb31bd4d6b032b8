package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ocspfleet/cmd/ocspctl/internal/keyset"
	"ocspfleet/cmd/ocspctl/internal/settings"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/tables"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/recovery"
)

// claims are certificates that a site's rows, or its memory, have and the master lacks.
type claims []recovery.Row

// findClaims compares a site's rows with the master, issuer by issuer: their numbers may differ,
// their keys do not. missing are issuers that the master does not have.
func findClaims(ctx context.Context, master *masterdb.DB, site *sitedb.DB) (all claims, missing []string, err error) {
	atMaster, err := master.Issuers(ctx)
	if err != nil {
		return nil, nil, err
	}
	atSite, err := site.Issuers(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, there := range atSite {
		at := slices.IndexFunc(atMaster, func(i db.Issuer) bool { return i.Key == there.Key })
		if at < 0 {
			missing = append(missing, there.Name)
			continue
		}
		here := atMaster[at]
		var batch []masterdb.Row
		look := func(lasting bool) error {
			rows := batch
			batch = nil
			if lasting {
				if rows, err = master.Lost(ctx, here.ID, rows); err != nil {
					return err
				}
			}
			effects, err := master.Effects(ctx, here.ID, rows)
			for _, e := range effects {
				if lasting || e.Enters() {
					all = append(all, recovery.Row{Issuer: here, EffectHere: e})
				}
			}
			return err
		}
		take := func(lasting bool) func(db.Serial, db.Status) error {
			return func(serial db.Serial, s db.Status) error {
				batch = append(batch, masterdb.Row{Serial: slices.Clone(serial), Status: s})
				if len(batch) < masterdb.RecoveryBatch {
					return nil
				}
				return look(lasting)
			}
		}
		if err = site.Known(ctx, there.ID, take(true)); err == nil {
			err = look(true)
		}
		for _, kind := range []tables.Kind{tables.KindGood, tables.KindHold} {
			if err == nil {
				err = site.List(ctx, tables.Choice{Kind: kind, Issuer: there.ID, Current: true}, func(_ db.IssuerID, serial db.Serial, s db.Status) error {
					return take(false)(serial, s)
				})
			}
			if err == nil {
				err = look(false)
			}
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return all, missing, nil
}

// borne removes what the feed's keys signed: it is not a claim.
func (c *claims) borne(h *recovery.History) error {
	claimed := map[string]db.Status{}
	key := func(issuer [32]byte, serial db.Serial) string { return string(issuer[:]) + string(serial) }
	for _, row := range *c {
		claimed[key(row.Issuer.Key, row.Serial)] = row.Status
	}
	err := h.Certificates(func(issuer db.IssuerID, serial db.Serial, s db.Status) error {
		at := key(h.Issuers[issuer].Key, serial)
		if claim, is := claimed[at]; is && claim.Revoked == s.Revoked && claim.RevokedAt.Equal(s.RevokedAt) && claim.Reason == s.Reason && claim.NotAfter.Equal(s.NotAfter) {
			delete(claimed, at)
		}
		return nil
	})
	*c = slices.DeleteFunc(*c, func(row recovery.Row) bool {
		_, claims := claimed[key(row.Issuer.Key, row.Serial)]
		return !claims
	})
	return err
}

// split separates permanent revocations from what is only listed.
func (c claims) split() (lasting, others []recovery.Row) {
	for _, row := range c {
		if row.Status.Permanent() {
			lasting = append(lasting, row)
		} else {
			others = append(others, row)
		}
	}
	return lasting, others
}

// keptHistory reads a site's stored files of the feed, or says why there are none.
func keptHistory(ctx context.Context, master *masterdb.DB, site *sitedb.DB, cfg *settings.Settings, name string) (*recovery.History, string, error) {
	for _, store := range []feed.KeySetStore{master, site} {
		notes, err := store.FeedKeySets(ctx)
		if err != nil {
			return nil, "", err
		}
		if len(notes) == 0 {
			continue
		}
		root, err := cfg.Feed.Verifier()
		if err != nil {
			return nil, "", fmt.Errorf("what the feed's keys signed cannot be told from the site's claims: %w", err)
		}
		history, err := recovery.Read(ctx, master, root, recovery.FromSite(site.DB, name))
		switch {
		case err == nil:
			return history, "", nil
		case errors.Is(err, recovery.ErrUnpublished):
			return nil, sentence(err), nil
		case errors.Is(err, db.ErrNotFound):
			return nil, "This site keeps nothing that the feed's keys signed: take another site, or ocspctl feed recover --from URL.", nil
		case keyset.Forged(err), errors.Is(err, feed.ErrGap), errors.Is(err, feed.ErrMixed), errors.Is(err, feed.ErrRollback), errors.Is(err, feed.ErrForm):
			return nil, fmt.Sprintf("What this site keeps of the feed is not believed: %v.", err), nil
		}
		return nil, "", err
	}
	return nil, sentence(recovery.ErrUnpublished), nil
}

// sentence returns an error as a line of a report.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
