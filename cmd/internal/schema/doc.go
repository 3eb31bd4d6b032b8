// Package schema watches that the schema of a daemon's database stays what the migrations
// made it: who drops a trigger or a key makes changes pass unseen. It reads the catalogs
// alone, and changes nothing.
//
// It trusts the migrations with what the schema must be. It promises that a difference is told
// in the log once, and in /readyz until it is mended.
package schema
