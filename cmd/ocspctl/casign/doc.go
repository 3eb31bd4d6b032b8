// Package casign is the noun of ocspctl for the machine that holds a CA's key: it signs
// bundles, and needs no database and no network.
//
// It trusts its own configuration and the folder in which the CA remembers what it signed;
// the bundle with nothing. It promises that what the CA's rules forbid is refused, that each
// serial is signed once, and that nothing is signed without --apply (ops/issuance keeps that).
package casign
