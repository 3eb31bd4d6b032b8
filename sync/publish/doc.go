// Package publish owns the master's side of the feed: it seals changes into segments and signs
// checkpoints (Sealer), makes snapshots (Snapshotter), judges the key sets that staff brings
// (TakeOffers), notes which site came (ClientTracker), takes evidence of forks (ForkReports) and
// signs answers on single serials (LookupServer). A relay uses ClientTracker and LookupServer
// without a key.
//
// It trusts the database for what is to be signed, never for what was signed: the sealer compares
// the database with its own memory, which is in a file (feed.state), before it signs. It trusts a
// key set only with the signature of the feed root.
//
// It promises: the sealer never signs two things of one number. It signs nothing if the master
// lost changes that were signed, and nothing with a key that the key set in force does not name.
//
// Read seal.go first, then memory.go and keyring.go; offers.go; snapshotter.go; clienttracker.go,
// fork.go and lookupserver.go; metrics.go.
package publish
