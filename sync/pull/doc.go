// Package pull keeps a site's copy in step by the signed feed: it asks sources,
// verifies, applies, and goes on from what it stored. It also is what a relay
// shows: whatever it verified stands in the site's database, to be served.
//
// It trusts the pinned feed root and nobody else. A source can withhold, never
// alter: rollback, gap, fork, freeze and mix-and-match are refused, and another
// source is asked. Two signed statements that contradict each other are kept as
// evidence, and never stop the site: its copy ages.
//
// It promises that rows, horizon and digests change together or not at all, that
// the old copy stays until a new one is whole and agrees with what was signed,
// and that no copy takes back a permanent revocation that this site knew.
//
// Read pull.go (the loop) and source.go (whom to ask) first, then state.go (what is judged
// from facts alone), follow.go and seed.go (how a copy gets on), watch.go, keys.go. swarm.go
// has the order among peers; trim.go what a site keeps of the feed's files, lookupproxy.go
// the questions for single serials: both beside the loop.
package pull
