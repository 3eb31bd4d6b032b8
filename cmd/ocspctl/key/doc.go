// Package key is the noun of ocspctl for the site's OCSP key in its PKCS#11 token, and its
// TLS key for the feed. The verbs but delete take no --apply: a key is added, none is
// changed.
//
// It trusts the token to keep the private key, and the PIN's file. It promises that a private
// key never leaves the token, that a refused PIN is not offered again, and that a key is deleted
// only where the site's copy shows that no certificate needs it.
//
// In reading order: key.go, generate.go, csr.go, certificates.go, list.go, delete.go,
// pin.go.
package key
