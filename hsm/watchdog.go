package hsm

import (
	"context"
	"fmt"
	"time"
)

// hungFor returns how long no call of this token, signing or healing, has returned from the
// library; 0 while any does. Errors are not a hang: a token that is away recovers by itself.
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

// Watch returns an error when every token has been inside the library for limit and no call has
// returned: only a restart of the process helps then. While one token works, its answers are
// worth more than the return of the others. With limit 0 Watch never gives up. It returns nil
// when ctx ends.
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
