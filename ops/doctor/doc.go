// Package doctor owns the examination of one machine of the fleet, a site or the master. It
// reports line by line what is good, what will soon fail, and what is wrong, each with the fix.
//
// It owns no facts: it reads the database through db, gets the token's content and the daemons'
// configuration from its caller, and asks the daemons' ports. It trusts the database as the
// daemons do.
//
// It promises: it changes nothing. A part that cannot be examined is a line of its own, never a
// reason to stop.
//
// Read doctor.go first (what both share), then site.go with token.go and feed.go; master.go with
// publisher.go, serials.go and fork.go; connections.go.
package doctor
