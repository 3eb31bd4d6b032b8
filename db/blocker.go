package db

import (
	"fmt"
	"time"
)

// Blocker is a session at the master that others wait for, or that has an old transaction.
type Blocker struct {
	PID         int32
	Started     time.Time // of the session
	Transaction string    // its name within the session
	Login       string
	Application string
	Doing       string // for people
	Waits       bool   // another session has waited for it for long
	Head        bool   // it holds the lock on the head
	Idle        bool   // it is idle in its transaction
	Old         bool   // its transaction began over 10 minutes ago
	Spared      string // why it must not be ended; empty: it may be ended
}

// String returns the session's name for people.
func (b Blocker) String() string {
	return fmt.Sprintf("login %s, application %q, pid %d (%s)", b.Login, b.Application, b.PID, b.Doing)
}
