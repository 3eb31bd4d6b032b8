package hsm

import (
	"context"
	"fmt"
	"time"
)

// hungFor returns for how long no call of this token has returned from inside the
// library, those that end the signing as well as those that would heal it; 0 while
// any does. Errors are no hang: a token that is away heals by itself.
func (t *Token) hungFor() time.Duration {
	t.mu.Lock()
	since := t.trying // a login may hang, too
	if t.closed {
		since = time.Time{}
	}
	t.mu.Unlock()
	if all := t.limiter.allHungSince(); !all.IsZero() && (since.IsZero() || all.Before(since)) {
		since = all
	}
	if since.IsZero() {
		return 0
	}
	return time.Since(since)
}

// Watch returns an error when every token has been inside the library for limit
// without one call coming back: what a process cannot mend from within, but by
// being started again. While one token works its answers are worth more than the
// others' return. With limit 0 it never gives up. It returns nil when ctx ends.
func (r Tokens) Watch(ctx context.Context, limit time.Duration) error {
	if limit <= 0 || len(r) == 0 {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(max(limit/20, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			least := r[0].hungFor()
			for _, token := range r {
				least = min(least, token.hungFor())
			}
			if least >= limit {
				return fmt.Errorf("no call of the PKCS#11 library has returned for %s (exit_when_stuck): ending, to be started again", least.Round(time.Second))
			}
		}
	}
}
