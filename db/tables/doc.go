// Package tables owns what both databases hold: it reads the head and the replicated rows, the
// signed files of the feed, forks, the version and the shape of the schema, and makes and removes
// the logins.
//
// It trusts the database that it is given and verifies no signature: package feed does that for
// the signed files. What a login may do is granted in the migrations, not promised here.
//
// It promises: CheckSchema refuses a schema outside this program's range and names the fix. Verify
// counts head and rows in one snapshot. A new login's password leaves the process only as its
// SCRAM verifier.
//
// Read tables.go first, then head.go, status.go, list.go, correction.go and closedpin.go (rows);
// feed.go, keyset.go and fork.go (signed files); schema.go, shape.go and damage.go; login.go,
// logins.go, role.go and connections.go (logins); audit.go and clock.go.
package tables
