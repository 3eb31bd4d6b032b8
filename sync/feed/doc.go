// Package feed carries certificate status from the master to any number of
// sites. Committed changes are sealed once, at the master, into immutable
// segments; a signed checkpoint says what a copy holds at a segment's end and
// until when nothing newer existed. docs/feed.md is the form as a specification.
//
// It trusts the feed root that the receiver has pinned, and the keys in the root's key set,
// nothing else: a relay cannot change a segment, a checkpoint or a snapshot, only withhold it.
// The receiver checks freshness and order. With a stolen feed key an attacker can forge changes
// until the root bans the key.
//
// It promises that all data it opens was signed, has the one strict form, and fits into bounded
// memory, for any input.
package feed
