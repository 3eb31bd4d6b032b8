// Package crl is the noun of ocspctl for the CRLs of responder certificates: issued with
// the CA's key at hand, or planned as a series for a CA without a network.
//
// It trusts ops/issuance to sign, and the CA's own configuration with what a CRL may speak of.
// It promises that a certificate that was named for ever is named until it has ended, and
// that a CA without a network gets what it needs in one file.
//
// In reading order: crl.go (what is wrong with a CRL), issue.go, show.go, series.go.
package crl
