// Package responder is the noun of ocspctl for the sites: who is on the roster, with which
// certificates, and how a site comes, moves, is withdrawn and leaves.
//
// It trusts the CA's own configuration with what is signed, and a request with the key that
// signed it. It promises that each step of a site's life can be run again after it broke off,
// that who is revoked or has left never comes back, and that what the DNS still gives out is told.
//
// In reading order: responder.go, site.go (how a site is shown; list), show.go, add.go,
// set.go, lifecycle.go (revoke, suspend, restore, leave), renew.go, offline.go.
package responder
