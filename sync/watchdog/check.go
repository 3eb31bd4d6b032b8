package watchdog

import (
	"fmt"
	"time"

	"ocspfleet/db"
)

// Limits are how long a session may make others wait.
type Limits struct {
	// Wait is how long another session must have waited before a session is examined. Default 5
	// s; at least 1 s.
	Wait time.Duration
	// Root is how long the same transaction must then stay at the root of the waits before its
	// session is ended. Default 10 s.
	Root time.Duration
	// Share is how long one login may hold the head in each Window, in several short
	// transactions. Defaults 30 s and a minute.
	Share, Window time.Duration
}

// key identifies a transaction of a session.
type key struct {
	pid         int32
	started     time.Time
	transaction string
}

// sentence is a session that must be ended, with the reason.
type sentence struct {
	db.Blocker
	why string
}

// memory is the results of earlier checks. It belongs to one goroutine.
type memory struct {
	limits Limits
	root   map[key]time.Time  // since when it makes others wait
	had    map[key]bool       // had the head at the last check
	last   time.Time          // of the last check; zero: none yet
	turns  map[string][]turn  // of each login with the head
	named  map[key]db.Blocker // spared, and already reported
	ended  map[key]time.Time
}

// turn is a time in which a login had the head: from one check to the next.
type turn struct {
	at   time.Time
	long time.Duration
}

// check returns the sessions to end now, and the spared ones that were not reported yet.
func (m *memory) check(now time.Time, seen []db.Blocker) (end []sentence, spared []db.Blocker) {
	root, had := map[key]time.Time{}, map[key]bool{}
	named := map[key]db.Blocker{}
	for _, b := range seen {
		k := key{b.PID, b.Started, b.Transaction}
		if b.Waits {
			since, known := m.root[k]
			if !known {
				since = now
			}
			root[k] = since
		}
		if b.Head {
			had[k] = true
			// A COMMIT has the head for a moment, is busy, and is gone by the next check. So is
			// a short transaction of an attacker, but many of them together make others wait
			// for long.
			if (m.had[k] || b.Idle || b.Waits) && !m.last.IsZero() && b.Spared == "" {
				m.turns[b.Login] = append(m.turns[b.Login], turn{now, now.Sub(m.last)})
			}
		}
		if _, done := m.ended[k]; done {
			continue // its process needs a moment to end
		}
		why := ""
		switch held := m.share(b.Login, now); {
		case b.Waits && now.Sub(root[k]) >= m.limits.Root:
			why = fmt.Sprintf("others have waited for it for over %s", m.limits.Root)
		case b.Head && held > m.limits.Share:
			why = fmt.Sprintf("its login had the head for %s of %s", held.Truncate(time.Millisecond), m.limits.Window)
		case b.Old:
			why = "its transaction began over 10 minutes ago"
		}
		switch _, known := m.named[k]; {
		case why == "":
		case b.Spared == "":
			end = append(end, sentence{b, why})
			m.ended[k] = now
		default:
			named[k] = b
			if !known {
				spared = append(spared, b)
			}
		}
	}
	for k, at := range m.ended {
		if now.Sub(at) > time.Minute { // it has not ended: try again
			delete(m.ended, k)
		}
	}
	m.root, m.had, m.named, m.last = root, had, named, now
	return end, spared
}

// share returns how long a login had the head within the window.
func (m *memory) share(login string, now time.Time) time.Duration {
	var sum time.Duration
	kept := m.turns[login][:0]
	for _, t := range m.turns[login] {
		if now.Sub(t.at) < m.limits.Window {
			kept = append(kept, t)
			sum += t.long
		}
	}
	if len(kept) == 0 {
		delete(m.turns, login)
	} else {
		m.turns[login] = kept
	}
	return sum
}
