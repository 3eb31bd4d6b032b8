// Package schema checks that the schema of a daemon's database stays as the migrations made it:
// if a trigger or a key is dropped, changes go unnoticed. It reads only the catalogs, and
// changes nothing.
//
// It trusts the migrations for what the schema must be. It promises that a difference is logged
// once, and is in /readyz until it is repaired.
package schema
