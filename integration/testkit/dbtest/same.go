package dbtest

import (
	"context"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/tables"
)

// Same says where the copy's rows, recounted, are not what the original's head counts, or
// that they are not what the copy's own head counts. The copy's head and rows are read in
// one snapshot: between two reads it may be repaired, which looks like damage.
func Same(ctx context.Context, original, copied *tables.DB) error {
	want, err := original.Head(ctx)
	if err != nil {
		return err
	}
	counts, err := copied.Verify(ctx)
	if err != nil {
		return err
	}
	for i, table := range db.FeedTables {
		if c := counts[i]; !c.Identical || c.Counted != *table.Tally(&want) {
			return fmt.Errorf("%s: the copy has %+v, the original %+v", c.Table, c, *table.Tally(&want))
		}
	}
	return nil
}
