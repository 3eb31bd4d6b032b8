// Package watchdog makes sure that only a superuser can block the master. Every change takes the
// one head at COMMIT, and every revocation its certificate's row: a session that keeps one of them
// blocks all revocations, by mistake or on purpose.
//
// One connection waits for the head like any writer and keeps its place in the queue. Another finds
// the sessions that make others wait, follows the waits to their root, and ends that session if the
// same transaction stays there. It also ends a session whose login has the head too long, or whose
// transaction is over 10 minutes old. It owns the memory of earlier checks.
//
// It trusts the SQL functions watch and watch_end, which say whom it may end. It promises to spare
// superusers, COMMITs, sessions that wait for a standby, and ocspsyncd itself: those it only
// reports. Each session that it ended is in the log; at most 100 wait to be written to the audit.
//
// Read watchdog.go first, then check.go (which session, and when).
package watchdog
