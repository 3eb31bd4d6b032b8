// Package feed carries certificate status from the master to any number of
// sites. Committed changes are sealed once, at the master, into immutable
// segments; a signed checkpoint says what a copy holds at a segment's end and
// until when nothing newer existed. docs/feed.md is the form as a specification.
//
// It trusts the feed root that the receiver has pinned, and the keys that the
// root's key set names, nothing else: a relay cannot alter a segment, a
// checkpoint or a snapshot, only withhold it. Freshness and order are judged by
// the receiver. Whoever steals a feed key can forge changes until the root bans
// the key.
//
// It promises that what it opens was signed, is of the one strict form, and
// fits into bounded memory, whatever was sent.
package feed
