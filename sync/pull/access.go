package pull

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"ocspfleet/sync/feedhttp"
)

// accessDenied is what ocspd is told when the master closed the feed to this site.
const accessDenied = "the master does not let this site in any more: it was suspended or revoked, or has left (the CA's staff: ocspctl responder show)"

// access is why the master does not let this site in, as ocspd was told. Safe for
// concurrent use; the zero value knows nothing.
type access struct {
	mu   sync.Mutex // guards all; held while it is written down, so that the last word stands
	why  string     // empty: it is let in
	read bool       // from the database, once
}

func (a *access) denied() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.why != ""
}

// recordAccess tells ocspd when the master knows this site and refuses it: the news of
// its revocation may never have come, so it says neither good nor unknown. Only an
// answer of the master takes that back; a master that is away says nothing, and a
// peer's word counts neither way, since whoever runs one could stop the others.
func (p *Puller) recordAccess(ctx context.Context, from *feedhttp.Client, err error) {
	why := ""
	switch {
	case !from.Master():
		return
	case errors.Is(err, feedhttp.ErrAccessDenied):
		why = accessDenied
	case err != nil:
		return
	}
	p.access.mu.Lock()
	defer p.access.mu.Unlock()
	if p.access.why == why {
		return
	}
	call, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if err := p.cfg.Store.SetAccessDenied(call, why); err != nil {
		p.cfg.Log.WarnContext(ctx, "whether the master lets this site in cannot be noted", slog.String("error", err.Error()))
		return
	}
	if why != "" {
		p.cfg.Log.ErrorContext(ctx, "site is denied access", slog.String("source", from.String()), slog.String("error", err.Error()))
	} else {
		p.cfg.Log.InfoContext(ctx, "site is let in again", slog.String("source", from.String()))
	}
	p.access.why = why
}

// loadAccess reads what was noted before this process began: only the master's
// word takes it back.
func (p *Puller) loadAccess(ctx context.Context) error {
	p.access.mu.Lock()
	defer p.access.mu.Unlock()
	if p.access.read {
		return nil
	}
	why, err := p.cfg.Store.AccessDenied(ctx)
	if err == nil {
		p.access.why, p.access.read = why, true
	}
	return err
}
