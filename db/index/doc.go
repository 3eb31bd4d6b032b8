// Package index is the copy of certificate status in the memory of one process.
// It owns a table of every certificate, the issuers, the responder certificates
// and the horizon of all three, and follows the site's local database.
//
// What it trusts: the database, as far as it can be checked here. With write access to rows and
// head an attacker can make this site lie. With Config.Trust, though, this works no longer than
// the age of the last checkpoint that the master signed, and never for a permanent revocation
// that this site knows. Differences are found: each snapshot's head has the count and the
// digest that its rows must have, and only a snapshot that matches is adopted.
//
// What it promises:
//
//   - A look-up takes no lock, does no I/O and takes about a microsecond. It works while the
//     database is away; the horizon then ages.
//   - Rows are published first and the horizon last, and a look-up loads the horizon first: an
//     answer never claims more than its row knows.
//   - An adopted permanent revocation stays until the certificate expires: a snapshot without
//     it is refused, whatever its head says, unless db.Adoption allows that by a correction
//     that this process has verified. This also holds across restarts, though the process
//     stores nothing: the site's database remembers (sitedb.Remembered). If a first load lacks
//     a remembered revocation, the copy is in doubt and the revocation is still answered.
//   - A refused snapshot puts the horizon in doubt: permanent revocations are served, good and
//     unknown are not. The first snapshot that can be adopted ends the doubt, so a re-seed
//     repairs it.
//
// A position or an epoch below the adopted one is refused too, even if digest and rows match: a
// master restored from a backup has lost changes that were sent here. This ends when the
// position catches up, with a new epoch, or with a restart of the process.
//
// Read index.go first (look-ups), then follow.go (the loop), read.go, check.go and adopt.go (one
// snapshot); signed.go (checkpoints); memory.go (what was lost); row.go and table.go (the form in
// memory); metrics.go.
package index
