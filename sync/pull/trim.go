package pull

import (
	"context"
	"log/slog"
	"time"

	"ocspfleet/db"
)

const (
	trimEvery = 10 * time.Minute
	// tombstoneAge is how long deletions are remembered for who follows the copy.
	tombstoneAge = time.Hour
)

// Trim forgets old deletions until ctx ends; it returns nil then.
func Trim(ctx context.Context, store *db.Store, log *slog.Logger) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		call, cancel := context.WithTimeout(ctx, applyTimeout)
		if _, err := store.TrimTombstones(call, tombstoneAge); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "tombstones cannot be trimmed", slog.String("error", err.Error()))
		}
		cancel()
		timer.Reset(trimEvery)
	}
}
