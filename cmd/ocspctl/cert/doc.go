// Package cert is the noun of ocspctl for single certificates: their status at the master,
// and imports. All changes go through the master's functions, so that each stands in the
// audit; what a site answers is asked with --wait alone.
//
// It trusts the master's functions with every rule of a status, and a file with what it says
// of the issuer that is named, no more. It promises that without --apply the plan is the act
// itself, rolled back, and that --wait tells what sites answer, not what they were sent.
//
// In reading order: cert.go (show), issue.go, revoke.go, hold.go, wait.go, correct.go,
// list.go, export.go; source.go (what a file is), import.go, reconcile.go, view.go.
package cert
