// Package health holds the text of a fault, for a daemon's /readyz, and repeats a step,
// reporting each new fault once.
package health

import (
	"context"
	"sync"
	"time"
)

// Trouble is the text of a fault that one goroutine sets and others read. Empty: no fault.
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

// Every does a step again and again.
type Every struct {
	Pause   func() time.Duration // between two steps
	Wake    <-chan struct{}      // ends a pause; may be nil
	Trouble *Trouble             // the error of the last step; may be nil
	Failed  func(text string)    // is called with each new error; may be nil
}

// Always is a pause that does not change.
func Always(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// Run does the step at once and again after each pause, until ctx ends; it returns nil then.
func (e Every) Run(ctx context.Context, step func(context.Context) error) error {
	trouble := e.Trouble
	if trouble == nil {
		trouble = new(Trouble)
	}
	for {
		err := step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if trouble.Set(text) && err != nil && e.Failed != nil {
			e.Failed(text)
		}
		pause := time.NewTimer(e.Pause())
		select {
		case <-ctx.Done():
		case <-pause.C:
		case <-e.Wake:
		}
		pause.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}
