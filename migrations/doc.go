// Package migrations owns the schema of the fleet's databases, its roles and their rights, and
// brings a database up to it. common is for both databases, master and site for one each. Daemons
// never migrate; they refuse a schema outside their range and name the fix.
//
// It trusts the superuser by whose login it runs. It trusts neither the live schema nor the live
// rights: SchemaDrift compares the one with schema.txt, Drift the other with rights.txt.
//
// It promises: a migration never changes (frozen.sha256), and a database from before the Baseline
// is refused with the way out. After Up, PUBLIC and our roles have exactly the rights of
// rights.txt. Repair touches no row of the master; at a site it may empty tables whose rows come
// again.
//
// Read migrations.go first, then rights.go; shape.go with shape.sql; repair.go; then the SQL of
// common, master and site, in the order of its numbers.
package migrations
