// Package issuance is the CA's part: it certifies a site's OCSP key for an issuer, renews
// that, and signs the CRLs; at the master, or by bundles that travel to a CA without a
// network.
//
// It trusts the master's database for what is to be done, never for what may be signed:
// that say the CA's own rules and memory, which lie beside its key (a crypto.Signer that
// it is handed). It does not trust a certificate request beyond its public key. It
// promises that no responder certificate leaves it whose serial is not registered at the
// master, that was signed before, or that package certprofile finds at fault.
//
// Read issue.go and carules.go first, then request.go and enrol.go; renew.go; crl.go and
// crlmemory.go; offline.go, casign.go and crlseries.go for bundles; castate.go for the
// memory.
package issuance
