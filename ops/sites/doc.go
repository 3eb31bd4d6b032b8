// Package sites is what staff do with sites that have their certificates: ask each how it
// is, as a client would, and take one out or in again, with its addresses in the DNS.
//
// It trusts the master's database and the zone's servers. It does not trust what a site
// answers: an answer counts only with its signature (Verify), and needs no CA's key. It
// promises that a step may be run again from anywhere, and that no step leaves the zone
// with addresses of sites that are not well alone.
//
// Read probe.go and answer.go first, then survey.go with known.go, await.go; lifecycle.go
// with leave.go and move.go for the steps; address.go, byaddress.go and zonecheck.go for
// the DNS.
package sites
