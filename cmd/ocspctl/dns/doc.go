// Package dns is the noun of ocspctl that looks at the sites' addresses in the DNS. It
// changes nothing: the verbs of responder do.
//
// It trusts the zone's primary with the zone's names, and the roster with the sites. It
// promises that each difference is shown with its fix, and that a server that is behind or
// silent is named.
package dns
