// Package database is the noun of ocspctl that sets up and looks at a database: db. The
// verbs that set up take no --apply: they add what is missing and change nothing that is
// there but, with --repair, what somebody changed of the schema; db status shows
// beforehand what that is.
//
// It trusts the superuser's login that it is given, and the migrations. It promises that
// setting up can be run again at any time, that passwords come from files, and that what
// takes something away asks for --apply and stands in the audit.
//
// In reading order: database.go, state.go (db status), up.go (init, migrate), verify.go,
// force.go, user.go; at the master limit.go, slot.go, epoch.go, purge.go.
package database
