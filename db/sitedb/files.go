package sitedb

import (
	"context"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/upstream"

	"github.com/jackc/pgx/v5"
)

// publishedFiles are the tables of the signed files in schema ocsp_internal, and their columns.
var publishedFiles = []struct{ table, columns string }{
	{"feed_keys", "number, note"},
	{"feed_checkpoint", "id, epoch, number, position, as_of, note"},
	{"segment", "epoch, number, first, last, hash, note, note_hash, snapshot_required, body"},
}

// SeedFiles replaces the published files here by the master's, as they are when a new slot is
// made, and subscribes to that slot, all in one local transaction; readers see the old files until
// it commits, and wait for nothing. Segments and snapshots from an earlier sync by the feed are
// deleted: they led to other rows.
func (s *DB) SeedFiles(ctx context.Context, from *upstream.DB, slot string) error {
	source, err := from.Export(ctx, slot)
	if err != nil {
		return fmt.Errorf("copying the signed files: %w", pg.Plain(err))
	}
	defer source.Close()
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		for _, t := range publishedFiles {
			sql := fmt.Sprintf("create temp table files_%[1]s on commit drop as select %[2]s from ocsp_internal.%[1]s with no data", t.table, t.columns)
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("preparing the copy of %s: %w", t.table, err)
			}
			columns := " (" + t.columns + ")"
			if err := source.Copy(ctx, "ocsp_internal."+t.table+columns, tx, "files_"+t.table+columns, nil); err != nil {
				return fmt.Errorf("copying %s: %w", t.table, err)
			}
		}
		return swapFiles(ctx, tx, from, slot)
	})
	if err != nil {
		return from.GiveUp(ctx, slot, fmt.Errorf("copying the signed files: %w", pg.Plain(err)))
	}
	return nil
}

// swapFiles replaces the old files by the staged ones. The old worker is stopped first.
func swapFiles(ctx context.Context, tx pgx.Tx, from *upstream.DB, slot string) error {
	ctx, cancel := context.WithTimeout(ctx, swapBase)
	defer cancel()
	var write pg.Batch
	write.Exec("set local lock_timeout = '10s'")
	write.Exec("select subscription_drop($1)", db.FilesSubscriptionName)
	for _, t := range publishedFiles {
		write.Exec("delete from ocsp_internal." + t.table)
		write.Exec(fmt.Sprintf("insert into ocsp_internal.%[1]s (%[2]s) select %[2]s from files_%[1]s", t.table, t.columns))
	}
	for _, kept := range []string{"ocsp_feed.segment", "snapshot_chunk", "snapshot"} {
		write.Exec("delete from " + kept)
	}
	write.Exec("select subscription_create($1, $2, $3, $4, $5, $6, $7, $8)", append(from.Address(db.FilesSubscriptionName), slot)...)
	return write.Send(ctx, tx)
}

// DropSubscriptions ends native replication at a site whose rows come by the feed. The master
// drops its slots.
func (s *DB) DropSubscriptions(ctx context.Context) error {
	for _, name := range []string{db.SubscriptionName, db.FilesSubscriptionName} {
		if _, err := s.pool.Exec(ctx, "select subscription_drop($1)", name); err != nil {
			return fmt.Errorf("dropping subscription %s: %w", name, pg.Plain(err))
		}
	}
	return nil
}
