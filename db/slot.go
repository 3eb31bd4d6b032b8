package db

import (
	"context"
	"fmt"
)

// SawSlots remembers, at the master, which slots sites stream from now: a site may make
// one of any name, and all go with it.
func (s *Publisher) SawSlots(ctx context.Context) error {
	if _, err := s.pool.Exec(ctx, "select slots_seen()"); err != nil {
		return fmt.Errorf("noting who streams from which slot: %w", plain(err))
	}
	return nil
}

// AllowSlot says that the DBA wants a slot that is no site's, or wants it no more, and
// whether that changed anything. The store's login must be a superuser.
func (s *Sites) AllowSlot(ctx context.Context, slot string, allowed bool, act Act) (bool, error) {
	var changed bool
	if err := s.pool.QueryRow(ctx, "select slot_allow($1, $2, $3, $4)", slot, allowed, act.Why, act.User).Scan(&changed); err != nil {
		return false, fmt.Errorf("setting slot %q allowed=%t: %w", slot, allowed, plain(err))
	}
	return changed, nil
}
