// Package fleet is the noun of ocspctl for all sites at once: how each is, and what one
// knows and the master lost.
//
// It trusts no site's word of itself: a site is asked as a client would, and its signed answer
// judged. It promises that a site that is silent is named, and that of a site's claim nothing
// but permanent revocations is entered, by two persons.
//
// In reading order: fleet.go; status.go, known.go (the sites where the master is away);
// lost.go, claims.go.
package fleet
