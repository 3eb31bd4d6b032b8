package replica

import (
	"context"
	"log/slog"
	"time"

	"ocspfleet/db/sitedb"
)

const (
	// maxRoundTrip is the longest round trip that measures a clock; half of it is the error of the
	// measurement.
	maxRoundTrip = 10 * time.Second
	// Doubtful is a difference of clocks from which they are compared more often.
	Doubtful = time.Minute
)

// Clock compares this site's clock with the master's, by a round trip with the master itself: old
// news do not show a wrong clock. It is for one goroutine.
type Clock struct {
	Store *sitedb.DB
	Log   *slog.Logger
	Now   func() time.Time // this site's clock

	skew time.Duration
}

// Measure asks the master for its clock, and stores for ocspd by how much this site's is ahead.
// judged is false if the measurement is no use: the last one stays, and ages. The error is the
// master's.
func (c *Clock) Measure(ctx context.Context, ask func(context.Context) (time.Time, error)) (skew time.Duration, judged bool, err error) {
	before, began := c.Now(), time.Now() // began is monotonic: this site's clock may be set
	master, err := ask(ctx)
	if err != nil {
		return c.skew, false, err
	}
	trip, after := time.Since(began), c.Now()
	if trip > maxRoundTrip || (after.Sub(before)-trip).Abs() > maxRoundTrip {
		return c.skew, false, nil // the line is too slow, or the clock was set in the meantime
	}
	known := c.skew
	c.skew = before.Add(trip / 2).Sub(master)
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := c.Store.SetSkew(call, c.skew, after); err != nil && ctx.Err() == nil {
		c.Log.WarnContext(ctx, "clock skew cannot be noted", slog.String("error", err.Error()))
	}
	if c.skew.Abs() > Doubtful && known.Abs() <= Doubtful {
		c.Log.ErrorContext(ctx, "clock differs from the master's", slog.Duration("ahead", c.skew))
	}
	return c.skew, true, nil
}
