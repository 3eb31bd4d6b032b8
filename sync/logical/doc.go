// Package logical keeps a site's copy of the certificate status in step with the
// master by PostgreSQL's own logical replication. It sets the subscription up,
// watches it, names what is wrong from a closed set, and repairs by copying
// anew; rows travel through PostgreSQL alone.
//
// It trusts the master and the network to it as far as sslmode says; no row
// is signed. Only that a permanent revocation was wrong it does not believe the master,
// but a key that the pinned root names. It trusts nobody at the site: a row that was changed or lost
// here is found, because the head that came with the rows counts them, and
// healed. The digest finds accidents and clumsy hands; whoever can write to
// both rows and head is not found.
//
// It promises that the old copy stays until a new one is whole and agrees with
// the master's head, and that no copy takes back a permanent revocation that
// this site knew from the master.
//
// Read subscription.go (the loop), probe.go and state.go (what is seen, what is wrong) first,
// then seed.go; subscriber.go has what the subscription of the rows and that of the signed
// files share, files.go, fileskept.go and filesstate.go are the latter.
package logical
