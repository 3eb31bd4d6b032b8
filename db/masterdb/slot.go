package masterdb

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
)

// SawSlots remembers, at the master, which slots sites stream from now: a site may make
// one of any name, and all go with it.
func (s *Publisher) SawSlots(ctx context.Context) error {
	if _, err := s.pool.Exec(ctx, "select slots_seen()"); err != nil {
		return fmt.Errorf("noting who streams from which slot: %w", pg.Plain(err))
	}
	return nil
}

// AllowSlot says that the DBA wants a slot that is no site's, or wants it no more, and
// whether that changed anything. The store's login must be a superuser.
func (s *Sites) AllowSlot(ctx context.Context, slot string, allowed bool, act db.Act) (bool, error) {
	var changed bool
	if err := s.pool.QueryRow(ctx, "select slot_allow($1, $2, $3, $4)", slot, allowed, act.Why, act.User).Scan(&changed); err != nil {
		return false, fmt.Errorf("setting slot %q allowed=%t: %w", slot, allowed, pg.Plain(err))
	}
	return changed, nil
}

// SiteSlots lists the logical slots of all sites, as any login at the master may;
// LagBytes is what the site has not confirmed yet.
func (s *Sites) SiteSlots(ctx context.Context) ([]db.Slot, error) {
	rows, err := s.pool.Query(ctx, `select slot_name, active, coalesce(wal_status, ''),
		coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end, confirmed_flush_lsn), 0)::bigint, coalesce(substring(p.program from '^ocspfleet/([0-9]{1,4})$')::int, 0)
		from pg_replication_slots left join slot_programs() p on p.slot = slot_name where slot_type = 'logical' and database = current_database() and slot_name ~ '^ocsp_.*_[0-9]+$' order by 1`)
	if err != nil {
		return nil, fmt.Errorf("listing the sites' slots: %w", pg.Plain(err))
	}
	slots, err := pgx.CollectRows(rows, pgx.RowToStructByPos[db.Slot])
	if err != nil {
		return nil, fmt.Errorf("listing the sites' slots: %w", pg.Plain(err))
	}
	return slots, nil
}
