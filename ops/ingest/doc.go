// Package ingest imports certificate status that another program keeps into the
// master, and compares the two: openssl's index.txt, CRLs, our own CSV and
// NDJSON, CAcert's tables, CFSSL, EJBCA, step-ca, and certificates themselves.
//
// One pipeline serves all: a form reads its file entry by entry, File judges
// every one of them before anything else happens, Plan compares them with the
// master, Apply writes. docs/import.md describes the forms for their users.
//
// It trusts nothing in a file but its statements about the issuer that the
// caller names, and that issuer's signature where there is one; it never keeps
// or passes on a subject name. It promises: the whole file is judged before the
// first row is written, and one bad row stops all of it with its place and the
// reason; the plan is what apply does; a revocation is never taken back; a rerun
// writes only what is missing, so that an import that broke off is resumed by
// starting it again; memory stays below a bound, however long the file is (a
// CRL, which is held whole, may have 64 MiB). Duplicates, the plan and what the master has
// and the file has not are found in SQL over the staged rows (db/masterdb).
//
// Read source.go (what a form is), file.go and judge.go, plan.go and reconcile.go; then the
// forms: index.go, own.go, crl.go with crlopen.go and crlentry.go, certificates.go,
// cacert.go, foreign.go, step.go; value.go reads their values. Package syntax cuts files up.
package ingest
