package replica

import (
	"context"
	"log/slog"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/tables"
)

// countLimit bounds one count: 1 M rows take a second.
const countLimit = 10 * time.Minute

// Counter counts a copy against its head, at its Pace.
type Counter struct {
	Pace
	Store *sitedb.DB
	Log   *slog.Logger
}

// Result is what came of one count: a closed set, a metric's label.
type Result string

// The results of a count.
const (
	Equal   Result = "equal"
	Unequal Result = "unequal"
	Failed  Result = "failed"
)

// Found is what a count found.
type Found struct {
	Result Result
	// Differs is how the copy is not what its head says, once that is believed, or that its
	// pages are damaged: it is to be made anew. Empty: nothing is known.
	Differs string
	// Unread is why the copy could not be counted: it goes on following, and says that it
	// is not well. Empty: it was, or the count was stopped.
	Unread string
}

// Count counts the whole copy. A row that was changed or lost here is found.
func (c *Counter) Count(ctx context.Context, now time.Time) Found {
	call, cancel := context.WithTimeout(ctx, countLimit)
	defer cancel()
	c.Counting()
	began := time.Now() // monotonic: this is for the pace, not for the record
	counts, err := c.Store.Verify(call)
	c.Counted(now, time.Since(began))
	switch {
	case tables.Damaged(err):
		return Found{Result: Unequal, Differs: err.Error()}
	case err != nil && ctx.Err() != nil:
		return Found{Result: Failed}
	case err != nil:
		c.Log.WarnContext(ctx, "recount failed", slog.String("error", err.Error()))
		return Found{Result: Failed, Unread: "the copy cannot be counted: " + err.Error()}
	}
	wrong := db.Differences(counts)
	believed := c.Compared(wrong == "")
	switch {
	case wrong == "":
		return Found{Result: Equal}
	case believed:
		return Found{Result: Unequal, Differs: wrong}
	}
	return Found{Result: Unequal}
}
