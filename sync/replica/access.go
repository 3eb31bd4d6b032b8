package replica

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"ocspfleet/db/sitedb"
)

// AccessDenied is the text for ocspd and /readyz when the master closed its feed, or its login, to
// this site.
const AccessDenied = "the master does not let this site in any more: it was suspended or revoked, or has left (the CA's staff: ocspctl responder show)"

// callTimeout bounds one small step at the site's database, which is near.
const callTimeout = 10 * time.Second

// Access is whether the master lets this site in, as ocspd reads it: a refused site may not have
// received its own revocation, so ocspd answers neither good nor unknown. Safe for concurrent use.
type Access struct {
	Store *sitedb.DB
	Log   *slog.Logger

	mu    sync.Mutex // guards the fields below; held while they are stored, so that the last answer stays
	why   string     // empty: access is allowed
	known bool       // the database has the value of why
}

// Denied says whether the master refused this site.
func (a *Access) Denied() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.why != ""
}

// Load reads what was stored before this process began: only the master's answer ends a refusal.
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

// Record takes the result of a request to the master itself: denied means that the master knows
// this site and refused it. After another error the master is away, and nothing changes; success
// ends a refusal.
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
