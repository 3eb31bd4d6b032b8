// Package feed is the noun of ocspctl for the signed feed: its keys, what it holds, and
// what a master lost of it.
//
// It trusts the pinned root of the feed and nothing that is not signed under it. It promises
// that a private key is written into a file of its owner alone, that a key set follows the one
// before, and that what a master lost is entered by two persons.
//
// In reading order: feed.go; read.go (show, verify), open.go, record.go; source.go,
// recover.go; key.go (key generate), keyset.go (keys sign, publish), retired.go (keys
// retire), resign.go (corrections resign).
package feed
