// Package pg owns the connections to PostgreSQL for the packages under db: a pool, several
// statements in one round trip, a transaction that is rolled back (Try), the format of COPY, and
// the sentences for what PostgreSQL refuses. It knows our tables only by the names in errors.go,
// and of our functions only watch, which says who holds the head.
//
// It trusts the database that the DSN names. It does not trust the settings of a database or a
// login: each session sets what it relies on. A password file that all users of the machine can
// read or write is refused.
//
// It promises: a pool can be opened while its database is away. Without apply, Try leaves no row
// changed. Plain turns a refusal of PostgreSQL into a sentence for people, with the fix if there
// is one.
//
// Read pool.go and secret.go (how to connect) first, then call.go and batch.go (how to ask),
// copyreader.go, try.go, and errors.go (how to report).
package pg
