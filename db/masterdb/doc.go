// Package masterdb owns what the staff and the CA's software do at the master's database: DB, and
// Sites, the roster. What ocspsyncd does at the master is in package publisherdb.
//
// It trusts the database to judge. Status and roster are written by SQL functions alone
// (migrations/master), which check each rule; this package calls them and turns their refusals into
// sentences. VerifyAudit and VerifyLog do not trust the rows: they compute again.
//
// It promises: a plan is the act itself, rolled back (DB.Try). An act that needs a second person
// only files a request until another login approves it.
//
// Read masterdb.go first, then certificate.go and limit.go; approval.go and correction.go;
// import.go, staging.go and pace.go (many rows); roster.go, identity.go, feedclient.go, slot.go and
// dns.go (sites); crl.go, keyset.go, seals.go and fork.go (what is signed); purge.go, recovery.go
// and lost.go; head.go, audit.go, verifylog.go, doctor.go, export.go and lastrevoked.go.
package masterdb
