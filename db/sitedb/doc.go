// Package sitedb owns a site's database: what ocspsyncd writes (Apply, Replace, the subscriptions)
// and what ocspd reads (ReadTx, Delta, ListenHead).
//
// It trusts its caller to have verified the signatures of a step or a snapshot. It does not trust
// the rows: they must have the counts and digests of their head, and db.Adoption must allow each
// change of a certificate, before anything is committed. With native replication PostgreSQL writes
// the rows, past this package; package index checks those.
//
// It promises: Apply and Replace change the copy as a whole or not at all, and readers see the old
// copy until the commit. The site remembers each permanent revocation until a day after the
// certificate's end, whatever becomes of its row (Remembered).
//
// Read sitedb.go first, then apply.go, applyadopt.go and applywrite.go; replace.go and
// replaceadopt.go with their two sources (feedseed.go with feedload.go, masterseed.go); follow.go
// and memory.go (reading); replication.go, drift.go and files.go (native replication); relay.go,
// relaykeep.go and fork.go.
package sitedb
