// Package keyset is what several nouns of ocspctl ask of the master's key set: which one is
// in force, the corrections that were signed under it, and the forks of the feed.
//
// It trusts the pinned root alone. It promises that the newest set that verifies is the one
// that counts, by the rule of sync/feed, for every noun alike.
//
// In reading order: keyset.go, forks.go.
package keyset
