package db_test

import (
	"encoding/binary"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

// What a step took of site_seq is told, whatever it does to a row: what goes beyond was
// somebody else's writing.
func TestApplyTellsTheNumbersThatItTook(t *testing.T) {
	if testing.Short() {
		t.Skip("writes long batches")
	}
	store := newSiteStore(t)
	from, _ := snapshotOf(1, 10)
	from.Anchor.Number = 0
	seeded, err := store.Replace(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	number := func() int64 {
		t.Helper()
		n, err := store.SiteSeq(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := number(); n != seeded.SiteSeq {
		t.Errorf("after the seed the last number is %d, it told %d", n, seeded.SiteSeq)
	}
	head := from.Head
	end := time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
	row := func(i int, revoked bool) []byte {
		status := db.Status{NotAfter: end.Add(time.Duration(i) * time.Second), Reason: db.ReasonNone}
		if revoked {
			status.Revoked, status.RevokedAt, status.Reason = true, end.AddDate(-70, 0, 0), db.ReasonCertificateHold
		}
		return db.AppendCertificate(nil, db.IssuerID(1+i%2), binary.BigEndian.AppendUint32([]byte{1}, uint32(i)), status)
	}
	for i, c := range []struct {
		what     string
		old, new []byte // nil: there is none
	}{
		{"a new row", nil, row(20, false)},
		{"a row that changes", row(20, false), row(20, true)},
		{"a row of the snapshot that changes", row(0, false), row(0, true)},
		{"a row that goes", row(20, true), nil},
	} {
		number0, position := number(), int64(i+2)
		change := db.Change{Table: db.CertificateTable, Position: position, Deleted: c.new == nil, Content: c.new}
		if c.new == nil {
			change.Content = c.old
		}
		if c.old != nil {
			head.Certificates.Remove(c.old)
		}
		if c.new != nil {
			head.Certificates.Add(c.new)
		}
		head.Position, head.AsOf = position, head.AsOf.Add(time.Second)
		segment := &db.Segment{Epoch: 1000, Number: int64(i + 1), First: position, Last: position, Note: []byte("note"), Body: []byte("body")}
		step := sitedb.FeedStep{Segment: segment, Changes: []db.Change{change}, Head: head, Note: db.FeedNote{Epoch: 1000, Number: int64(i + 1), Position: position, AsOf: head.AsOf, Note: []byte("note")}}
		for _, again := range []bool{false, true} {
			have, err := store.Apply(t.Context(), step)
			if err != nil {
				t.Fatalf("%s: %v", c.what, err)
			}
			if took := number() - number0; took != have.Took || again && took != 0 {
				t.Errorf("%s, again %t: %d numbers were taken, Apply told %d", c.what, again, took, have.Took)
			}
			number0 = number()
		}
	}
}
