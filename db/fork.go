package db

import (
	"time"
)

// Fork is two signed statements of the feed that contradict each other.
type Fork struct {
	ID           int64
	At           time.Time
	From         string // at a site: the source that showed the second; at the master: the site that found it
	Why          string
	Ours, Theirs []byte
}
