// Package audit is the noun of ocspctl that reads the master's audit: who did what, when
// and why. It writes nothing.
//
// It trusts the master's rows with nothing: verify computes each hash anew, and compares with
// a mark that was kept elsewhere. It promises that memory does not grow with the audit, and
// that what an entry says is printed so that no terminal and no spreadsheet obeys it.
//
// In reading order: audit.go (list), verify.go, export.go.
package audit
