// Package db owns the words and rules that the other packages share: serials, reasons, status,
// issuers and their policy, the canonical bytes of a row and their digest, heads and tallies, what
// a site may adopt (Adoption), and the limits.
//
// It is pure: it opens no connection and no file, and reads no clock. The databases themselves are
// db/masterdb, db/publisherdb, db/sitedb and db/tables. It does not trust the rows it is given:
// canonical bytes that are not in the one form are refused (ErrCanonical), and a correction counts
// only if its note verifies.
//
// It promises: Adoption never lets a permanent revocation of an unexpired certificate go without a
// verified correction of exactly that state. The digest finds accidents, not an attacker.
//
// Read status.go first, then change.go, canonical.go, feed.go, segment.go and correction.go;
// adopt.go; role.go, slotname.go and limits.go; keyid.go, value.go, count.go, fork.go, blocker.go
// and refusal.go (small types).
package db
