package pull

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"ocspfleet/sync/feed"
)

// barred is what ocspd is told when the master closed the feed to this site.
const barred = "the master does not let this site in any more: it was suspended or revoked, or has left (the CA's staff: ocspctl responder show)"

// bar is why the master does not let this site in, as ocspd was told. Safe for
// concurrent use; the zero value knows nothing.
type bar struct {
	mu   sync.Mutex // guards all; held while it is written down, so that the last word stands
	why  string     // empty: it is let in
	read bool       // from the database, once
}

func (b *bar) is() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.why != ""
}

// noteBarred tells ocspd when the master knows this site and refuses it: the news of
// its revocation may never have come, so it says neither good nor unknown. Only an
// answer of the master takes that back; a master that is away says nothing, and a
// peer's word counts neither way, since whoever runs one could stop the others.
func (p *Puller) noteBarred(ctx context.Context, from *feed.Client, err error) {
	why := ""
	switch {
	case !from.Master():
		return
	case errors.Is(err, feed.ErrAccessDenied):
		why = barred
	case err != nil:
		return
	}
	p.bar.mu.Lock()
	defer p.bar.mu.Unlock()
	if p.bar.why == why {
		return
	}
	call, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if err := p.cfg.Store.SetBarred(call, why); err != nil {
		p.cfg.Log.WarnContext(ctx, "whether the master lets this site in cannot be noted", slog.String("error", err.Error()))
		return
	}
	if why != "" {
		p.cfg.Log.ErrorContext(ctx, "site is barred", slog.String("source", from.String()), slog.String("error", err.Error()))
	} else {
		p.cfg.Log.InfoContext(ctx, "site is let in again", slog.String("source", from.String()))
	}
	p.bar.why = why
}

// loadBarred reads what was noted before this process began: only the master's
// word takes it back.
func (p *Puller) loadBarred(ctx context.Context) error {
	p.bar.mu.Lock()
	defer p.bar.mu.Unlock()
	if p.bar.read {
		return nil
	}
	why, err := p.cfg.Store.Barred(ctx)
	if err == nil {
		p.bar.why, p.bar.read = why, true
	}
	return err
}
