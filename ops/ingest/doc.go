// Package ingest imports certificate status from other programs into the master, and compares
// both: openssl's index.txt, CRLs, our own CSV and NDJSON, CAcert's tables, CFSSL, EJBCA,
// step-ca, and certificates themselves.
//
// One pipeline serves all: a form reads its file entry by entry, File checks every entry before
// anything else happens, Plan compares them with the master, Apply writes. docs/import.md
// describes the forms for users.
//
// It trusts a file only for the status of certificates of the issuer that the caller names, and
// trusts that issuer's signature where there is one. It never stores or forwards a subject
// name. It promises: the whole file is checked before the first row is written, and one bad row
// stops the import with its place and the reason. Apply does what the plan says. A revocation
// is never removed. A second run writes only what is missing, so an interrupted import is
// resumed by starting it again. Memory stays bounded, however long the file is (a CRL, which is
// kept whole, may have 64 MiB). Duplicates, the plan and the rows that only the master has are
// found in SQL over the staged rows (db/masterdb).
//
// Read source.go (what a form is), file.go and judge.go, plan.go and reconcile.go; then the
// forms: index.go, own.go, crl.go with crlopen.go and crlentry.go, certificates.go, cacert.go,
// foreign.go, step.go; value.go reads their values. Package syntax splits files into lines and
// records.
package ingest
