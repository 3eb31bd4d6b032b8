// Package health holds a text that says what is wrong, for a daemon's /readyz.
package health

import (
	"sync"
)

// Trouble is a text that one goroutine sets and others read.
type Trouble struct {
	mu   sync.Mutex // guards text
	text string
}

func (t *Trouble) Get() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text
}

// set says whether that was a change.
func (t *Trouble) Set(text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := t.text != text
	t.text = text
	return changed
}
