// Package publisherdb is the master's database as ocspsyncd uses it, by a login in
// ocsp_publisher: it confirms the head, ends who holds it, seals and stores what is signed.
//
// It trusts the database for what is to be signed; what may be signed next, the functions of
// migrations/master decide once more. It issues and revokes nothing, and knows none of the
// staff's functions (package masterdb).
//
// Read publisherdb.go first, then head.go and watch.go; seal.go and snapshot.go; keyset.go,
// feedclient.go and ask.go.
package publisherdb
