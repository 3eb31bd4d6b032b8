// Package recovery finds what a master signed and then lost, because it was restored from an old
// backup, or because a standby that lagged was promoted. It owns the signed history of a source
// (History) and what the master lacks of it (Plan).
//
// It trusts only what keys signed that the pinned root's newest key set admits, from any source.
// What entering a row would do at the master, the master's own SQL says.
//
// It promises: it reads the master and changes nothing; package masterdb enters the rows, once two
// persons have agreed. A history with a gap, or one that does not lead to the source's newest
// checkpoint, is an error.
//
// Read source.go (where the files come from) first, then history.go (what was signed) and plan.go
// (what is lost).
package recovery
