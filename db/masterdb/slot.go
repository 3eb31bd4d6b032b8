package masterdb

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
)

// AllowSlot records that the DBA wants a slot that belongs to no site, or no longer wants it, and
// says whether that changed anything. The store's login must be a superuser.
func (s *Sites) AllowSlot(ctx context.Context, slot string, allowed bool, act db.Act) (bool, error) {
	return pg.Value[bool](ctx, s.pool, fmt.Sprintf("setting slot %q allowed=%t", slot, allowed), "select slot_allow($1, $2, $3, $4)", slot, allowed, act.Why, act.User)
}

// SiteSlots lists the logical slots of all sites, as any login at the master may;
// LagBytes is what the site has not confirmed yet.
func (s *Sites) SiteSlots(ctx context.Context) ([]db.Slot, error) {
	return pg.List(ctx, s.pool, "listing the sites' slots", pgx.RowToStructByPos[db.Slot], `select slot_name, active, coalesce(wal_status, ''),
		coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end, confirmed_flush_lsn), 0)::bigint, coalesce(substring(p.program from '^ocspfleet/([0-9]{1,4})$')::int, 0)
		from pg_replication_slots left join slot_programs() p on p.slot = slot_name where slot_type = 'logical' and database = current_database() and slot_name ~ '^ocsp_.*_[0-9]+$' order by 1`)
}
