package replica

import (
	"context"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

// TombstoneAge is how long deletions are remembered for who follows the copy.
const TombstoneAge = time.Hour

// Tidy forgets what a site needs no more: deletions older than age, and remembered
// revocations of certificates that have ended by this site's clock and by asOf, the newest
// time that somebody vouched for. Where asOf is zero nobody did, and no revocation goes.
func Tidy(ctx context.Context, store *sitedb.DB, age time.Duration, now, asOf time.Time) error {
	if _, err := store.TrimTombstones(ctx, age); err != nil || asOf.IsZero() {
		return err
	}
	_, err := store.ForgetEnded(ctx, db.Ended(now, asOf))
	return err
}
