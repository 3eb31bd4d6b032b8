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
	// segmentAge is how long segments stay that a snapshot covers: a peer that was
	// away for less goes on where it was.
	segmentAge = 30 * 24 * time.Hour
)

// Trim forgets old deletions, and old segments that a snapshot covers, until ctx ends; it returns nil then.
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
		if _, err := store.TrimSegments(call, segmentAge); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "segments cannot be trimmed", slog.String("error", err.Error()))
		}
		cancel()
		timer.Reset(trimEvery)
	}
}
