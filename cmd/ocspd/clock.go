package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

// clockEvery is how often the two clocks are compared.
const clockEvery = 10 * time.Second

// clockWatch compares this process's clock, which sets the times of answers, with its
// database's clock: ocspsyncd compares its own with the master's, and ocspd may run on another
// machine. Safe for concurrent use.
type clockWatch struct {
	store *sitedb.DB
	now   func() time.Time
	doubt atomic.Pointer[string]
}

// Run compares until ctx ends; it returns nil then. While the database is away the last
// comparison counts.
func (w *clockWatch) Run(ctx context.Context) error {
	return repeat(ctx, clockEvery, w.check)
}

// repeat calls check now and at each tick until ctx ends; it returns nil then.
func repeat(ctx context.Context, every time.Duration, check func(context.Context)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		check(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (w *clockWatch) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, clockEvery)
	defer cancel()
	began := w.now()
	database, err := w.store.Clock(ctx)
	if err != nil {
		return // the copy's follower reports that the database is away
	}
	doubt := ""
	if ahead, behind := began.Sub(database), database.Sub(w.now()); max(ahead, behind) > db.MaxClockSkew {
		doubt = fmt.Sprintf("clock: ocspd's clock is %s off its database's: mend the one that is wrong", ahead.Round(time.Second))
	}
	w.doubt.Store(&doubt)
}

// Doubt says what is wrong with the clock.
func (w *clockWatch) Doubt() string {
	if doubt := w.doubt.Load(); doubt != nil {
		return *doubt
	}
	return ""
}
