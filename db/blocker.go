package db

import (
	"fmt"
	"time"
)

// Blocker is a session at the master that others wait for, or whose transaction is old.
type Blocker struct {
	PID         int32
	Started     time.Time // of the session
	Transaction string    // names it within the session
	Login       string
	Application string
	Doing       string // for people
	Waits       bool   // somebody has waited for it for long
	Head        bool   // it has the head
	Idle        bool   // it does nothing meanwhile
	Old         bool   // its transaction began over 10 minutes ago
	Spared      string // why it may not be ended; empty: it may
}

// String names the session for people.
func (b Blocker) String() string {
	return fmt.Sprintf("login %s, application %q, pid %d (%s)", b.Login, b.Application, b.PID, b.Doing)
}
