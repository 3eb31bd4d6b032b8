package db

import (
	"fmt"
	"slices"
)

// Change is one change of a replicated row: what it is now, or that it is gone.
// State, not event: who applies a change twice has done no harm.
type Change struct {
	Position int64
	Table    byte // code of a FeedTable
	Deleted  bool
	// Content is the row's canonical bytes; of a deleted row their first part, the key.
	Content []byte
}

// FeedTable is one replicated table as changes, tallies and the feed name it.
type FeedTable struct {
	Name  string             // as in SQL and in checkpoints
	Code  byte               // as in change_body.tbl and in the feed's entries
	Tally func(*Head) *Tally // its place in a head
	rows  string             // SQL of the canonical bytes of row t
}

// CertificateTable is the code of the one table that the feed writes compactly.
const CertificateTable = 'c'

// FeedTables are the replicated tables in the order of their names. What the
// feed seals, carries and tallies is what stands here.
var FeedTables = []FeedTable{
	{"certificate", CertificateTable, func(h *Head) *Tally { return &h.Certificates }, certificateCanonical},
	{"issuer", 'i', func(h *Head) *Tally { return &h.Issuers }, "issuer_canonical(t)"},
	{"responder_certificate", 'r', func(h *Head) *Tally { return &h.ResponderCertificates }, "responder_certificate_canonical(t)"},
}

// FeedTableOf finds a replicated table by its code.
func FeedTableOf(code byte) (FeedTable, error) {
	at := slices.IndexFunc(FeedTables, func(t FeedTable) bool { return t.Code == code })
	if at < 0 {
		return FeedTable{}, fmt.Errorf("table %q is unknown: upgrade this program", code)
	}
	return FeedTables[at], nil
}
