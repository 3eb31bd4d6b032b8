package database

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// epoch is db epoch.
type epoch struct{ cli.Change }

func (epoch) Doc() cli.Doc {
	return cli.Doc{
		Name: "epoch", Short: "begin a new history at a master that was restored from a backup, or mended",
		Long: `A restored master is behind its sites, which refuse a position that goes back.
First enter what it signed and has forgotten (ocspctl fleet lost says how), then
begin a new epoch: the sites take it up, unless a permanent revocation is still
missing. The head counts the rows anew: who mended by SQL what was written past the
triggers has right sums from then on. Needs a superuser. The epoch is the time in seconds
since 1970.`,
		Example: `
		ocspctl db epoch
		ocspctl db epoch --why 'restored from the backup of 2026-11-20' --apply`,
	}
}

func (v *epoch) Run(ctx context.Context, m *ctl.Master) error {
	head, err := m.Store.Head(ctx)
	if errors.Is(err, db.ErrNoHead) {
		return errors.New("this master has no head: run ocspctl db init --role master")
	}
	if err != nil {
		return err
	}
	next := max(m.Now().Unix(), head.Epoch+1)
	var recounted []string // tables whose rows differed from the head
	outcome, err := m.Try(ctx, v.Change, func(store *masterdb.DB, act db.Act) (bool, error) {
		recounted, err = store.NewEpoch(ctx, next, act)
		return true, err
	})
	if err != nil {
		return err
	}
	tables := cli.F("recounted", "", recounted)
	if len(recounted) > 0 {
		tables = cli.F("recounted", "recounted", recounted)
	}
	return m.ShowChange(outcome, cli.Record{
		cli.Shown("epoch", "epoch", next, fmt.Sprintf("%d (%s)", next, cli.Stamp(time.Unix(next, 0)))), cli.F("before", "before", head.Epoch), tables,
	})
}
