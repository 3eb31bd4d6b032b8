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

// Result is the result of one count: a closed set, a metric's label.
type Result string

// The results of a count.
const (
	Equal   Result = "equal"
	Unequal Result = "unequal"
	Failed  Result = "failed"
)

// Found is the finding of a count.
type Found struct {
	Result Result
	// Differs says how the copy differs from its head, once enough counts found it, or that its
	// pages are damaged: the copy must be made again. Empty: nothing is known.
	Differs string
	// Unread is why the copy could not be counted: it still follows, and reports trouble. Empty:
	// it was counted, or the count was stopped.
	Unread string
}

// Count counts the whole copy. It finds a row that was changed or lost here.
func (c *Counter) Count(ctx context.Context, now time.Time) Found {
	call, cancel := context.WithTimeout(ctx, countLimit)
	defer cancel()
	c.Counting()
	began := time.Now() // monotonic: for the pace, not for the record
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
