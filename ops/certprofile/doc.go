// Package certprofile is what a responder's certificate must be: RFC 6960 section
// 4.2.2.2 (delegation), RFC 5280 section 4, CA/Browser Forum BR section 7.1.2.8
// (profile br).
//
// It trusts the CA's certificate alone, and knows nothing of how a certificate is
// made: Lint looks at the octets that clients get. It promises that what it finds
// no fault with has the one form that is issued, of a key that nobody can compute.
//
// Read profile.go first, then lint.go and key.go.
package certprofile
