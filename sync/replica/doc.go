// Package replica is what a site does for its copy, whichever way its rows come: it counts
// the copy against its head and finds what others wrote into it, compares the site's clock
// with the master's, notes for ocspd whether the master lets the site in, forgets what is
// old, and hands evidence of forks to the master. The two ways, sync/pull (the signed feed)
// and sync/logical (native replication), bring the rows and repair.
//
// It trusts nobody who writes into the site's database, and no peer about the clock or about
// access: only the master's own word counts. A master that is away says nothing.
//
// It promises that counting never takes more than a hundredth of the time, a twentieth on
// suspicion, and that nothing which a site still has to know is forgotten.
//
// Read pace.go (when to count) and counter.go first, then access.go, clock.go, tidy.go and
// report.go.
package replica
