package replica

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"ocspfleet/db/sitedb"
)

// AccessDenied is what ocspd and /readyz are told when the master closed its feed, or its
// login, to this site.
const AccessDenied = "the master does not let this site in any more: it was suspended or revoked, or has left (the CA's staff: ocspctl responder show)"

// callTimeout bounds one small step at the site's database, which is near.
const callTimeout = 10 * time.Second

// Access is whether the master lets this site in, as ocspd was told: the news of its own
// revocation may never have come, so it says neither good nor unknown while it is refused.
// Safe for concurrent use.
type Access struct {
	Store *sitedb.DB
	Log   *slog.Logger

	mu    sync.Mutex // guards what follows; held while it is written down, so that the last word stands
	why   string     // empty: it is let in
	known bool       // why is what the database has
}

// Denied says whether the master refused this site.
func (a *Access) Denied() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.why != ""
}

// Load reads what was noted before this process began: only the master's word takes it back.
func (a *Access) Load(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known {
		return nil
	}
	why, err := a.Store.AccessDenied(ctx)
	if err == nil {
		a.why, a.known = why, true
	}
	return err
}

// Record takes in how a talk with the master itself ended: denied says that it knows this
// site and refused it. Another error is a master that is away, which says nothing; success
// takes a refusal back.
func (a *Access) Record(ctx context.Context, err error, denied bool) {
	why := ""
	switch {
	case denied:
		why = AccessDenied
	case err != nil:
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known && a.why == why {
		return
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := a.Store.SetAccessDenied(call, why); err != nil {
		if ctx.Err() == nil {
			a.Log.WarnContext(ctx, "whether the master lets this site in cannot be noted", slog.String("error", err.Error()))
		}
		return
	}
	if denied {
		a.Log.ErrorContext(ctx, "site is denied access", slog.String("error", err.Error()))
	} else if a.why != "" {
		a.Log.InfoContext(ctx, "site is let in again")
	}
	a.why, a.known = why, true
}
