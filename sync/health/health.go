// Package health holds a text that says what is wrong, for a daemon's /readyz, and does a
// step again and again, telling of each change once.
package health

import (
	"context"
	"sync"
	"time"
)

// Trouble is a text that one goroutine sets and others read. Empty: nothing is wrong.
type Trouble struct {
	mu   sync.Mutex // guards text
	text string
}

// Get returns the text.
func (t *Trouble) Get() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text
}

// Set replaces the text, and says whether that was a change.
func (t *Trouble) Set(text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := t.text != text
	t.text = text
	return changed
}

// Every does a step at once and again after each pause, until ctx ends; it returns nil then.
// An error is the trouble until a step succeeds; failed is told of each one that is new.
func Every(ctx context.Context, pause func() time.Duration, trouble *Trouble, failed func(text string), step func(context.Context) error) error {
	for {
		err := step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if trouble.Set(text) && err != nil {
			failed(text)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause()):
		}
	}
}
