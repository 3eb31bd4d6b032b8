// Package fleet is what the CA's staff do with sites: certify a site's OCSP key
// for an issuer, and ask every site how it is.
//
// It trusts the master's database and the CA key it is handed as a
// crypto.Signer. It does not trust a certificate request beyond its public key,
// nor what a site answers: an answer counts only with its signature. It
// promises that no responder certificate leaves it whose serial is not
// registered at the master, or that its own lint finds at fault.
//
// RFC 6960 section 4.2.2.2 (delegation), RFC 5280 section 4, CA/Browser Forum
// BR section 7.1.2.8 (profile br).
package fleet
