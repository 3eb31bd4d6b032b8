package replica

import (
	"context"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

// TombstoneAge is how long deletions are kept for readers that follow the copy.
const TombstoneAge = time.Hour

// Tidy deletes what a site no longer needs: deletions older than age, and remembered revocations
// of certificates that have ended by this site's clock and by asOf, the newest signed time. A zero
// asOf means that there is none, and deletes no revocation.
func Tidy(ctx context.Context, store *sitedb.DB, age time.Duration, now, asOf time.Time) error {
	if _, err := store.TrimTombstones(ctx, age); err != nil || asOf.IsZero() {
		return err
	}
	_, err := store.ForgetEnded(ctx, db.Ended(now, asOf))
	return err
}
