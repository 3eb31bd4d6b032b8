// Package zone takes a site's addresses out of the DNS, and puts them back, by dynamic update of
// the zone's primary (RFC 2136), signed by TSIG (RFC 8945).
//
// It owns the A and AAAA records of a few names and touches nothing else. It trusts only answers
// that the primary signed. A plain answer is a hint only: the update that is built on it is
// applied only if the hint was true, since each update names the whole RRsets that were read as
// its prerequisites (RFC 2136 section 2.4.2). So two editors at once never undo each other: the
// later one reads again. It promises never to leave a name without an address unless Force is set.
//
// Errors name the keys of ocspctl.yaml (dns.server, ...).
//
// Read zone.go first, then update.go (an edit) and read.go (reading and proof); spread.go (the
// other servers of the zone); key.go, tsig.go and wire.go (one message); refusal.go.
package zone
