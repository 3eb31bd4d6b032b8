package db_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/sitedb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

// snapshotOf is n certificates of every kind, a few to a chunk, and the head that they
// have.
func snapshotOf(position int64, n int) (sitedb.FeedSeed, [][]db.Change) {
	head := db.Head{Epoch: 1000, Position: position, AsOf: time.Now().UTC().Truncate(time.Microsecond), AuditHash: []byte{}}
	var chunks [][]db.Change
	for i := range n {
		status := db.Status{NotAfter: time.Date(2099, 1, 1, 0, 0, i, 0, time.UTC), Reason: db.ReasonNone}
		switch i % 3 {
		case 1:
			status.Revoked, status.RevokedAt = true, time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC)
		case 2:
			status.Revoked, status.RevokedAt, status.Reason = true, time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC), db.ReasonCertificateHold
		}
		content := db.AppendCertificate(nil, db.IssuerID(1+i%2), binary.BigEndian.AppendUint32([]byte{1}, uint32(i)), status)
		head.Certificates.Add(content)
		if i%7 == 0 {
			chunks = append(chunks, nil)
		}
		chunks[len(chunks)-1] = append(chunks[len(chunks)-1], db.Change{Table: db.CertificateTable, Content: content})
	}
	return sitedb.FeedSeed{
		Head: head, Chunks: len(chunks), Anchor: sitedb.Anchor{Epoch: 1000, Number: 1},
		Snapshot: db.Snapshot{Epoch: 1000, Position: position, Octets: 1, Note: []byte("manifest")},
		Chunk: func(_ context.Context, i int) ([]byte, []db.Change, error) {
			return fmt.Append(nil, "chunk ", i), chunks[i], nil
		},
	}, chunks
}

func newSiteStore(t *testing.T) *sitedb.DB {
	t.Helper()
	store, err := sitedb.Open(t.Context(), pg.Config{DSN: dbtest.As(dbtest.New(t, migrations.Site), "ocsp_sync")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

func checkCopy(t *testing.T, store *sitedb.DB, want db.Head) {
	t.Helper()
	counts, err := store.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range counts {
		if !c.Identical {
			t.Errorf("%s has %+v, its head says %+v", c.Table, c.Counted, c.Head)
		}
	}
	if have, err := store.FeedCopy(t.Context()); err != nil || have.Head.Position != want.Position || have.Head.Certificates != want.Certificates || !have.Anchored {
		t.Errorf("the copy is %+v, %v; want position %d", have, err, want.Position)
	}
}

// tagOf names a snapshot by its manifest, as its address does.
func tagOf(note []byte) string {
	hash := sha256.Sum256(note)
	return hex.EncodeToString(hash[:8])
}

// An empty site is seeded while others look at it, and so is one that has a copy. Each
// kind of row arrives as it is.
func TestSeedFromFeedFillsAndReplaces(t *testing.T) {
	store := newSiteStore(t)
	from, chunks := snapshotOf(1, 100)
	from.Chunk = func(ctx context.Context, i int) ([]byte, []db.Change, error) {
		err := store.ReadTx(ctx, func(context.Context, *sitedb.ReadTx) error { return nil }) // the chunk before may be written by now
		if !errors.Is(err, db.ErrNoHead) {
			return nil, nil, fmt.Errorf("while an empty site is filled, a look finds: %w", err)
		}
		return fmt.Append(nil, "chunk ", i), chunks[i], nil
	}
	if _, err := store.Replace(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	checkCopy(t, store, from.Head)
	if body, err := store.FeedChunk(t.Context(), 1000, 1, tagOf(from.Snapshot.Note), 14); err != nil || string(body) != "chunk 14" {
		t.Errorf("chunk 14 is kept as %q, %v", body, err)
	}
	smaller, _ := snapshotOf(2, 50)
	if _, err := store.Replace(t.Context(), smaller); !errors.Is(err, db.ErrRevocationsLost) {
		t.Errorf("a snapshot without permanent revocations that are known here: %v", err)
	}
	checkCopy(t, store, from.Head)
	larger, _ := snapshotOf(3, 200)
	if seeded, err := store.Replace(t.Context(), larger); err != nil || seeded.Differing != 100 {
		t.Errorf("%d certificates are new, %v", seeded.Differing, err)
	}
	checkCopy(t, store, larger.Head)
}

// What does not agree with the signed head, or does not come, leaves no trace.
func TestSeedFromFeedRefuses(t *testing.T) {
	store := newSiteStore(t)
	away := errors.New("away")
	good, chunks := snapshotOf(2, 30)
	for _, filled := range []bool{false, true} {
		if filled {
			if _, err := store.Replace(t.Context(), good); err != nil {
				t.Fatal(err)
			}
		}
		before, err := store.FeedCopy(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(*sitedb.FeedSeed) error{
			"other digest": func(s *sitedb.FeedSeed) error { s.Head.Certificates.Digest++; return sitedb.ErrDiverged },
			"other count":  func(s *sitedb.FeedSeed) error { s.Head.Issuers.Count++; return sitedb.ErrDiverged },
			"no last chunk": func(s *sitedb.FeedSeed) error {
				s.Chunk = func(_ context.Context, i int) ([]byte, []db.Change, error) {
					if i == len(chunks)-1 {
						return nil, nil, away
					}
					return []byte("chunk"), chunks[i], nil
				}
				return away
			},
		} {
			from := good
			from.Snapshot.Position, from.Head.Position = 3, 3
			want := change(&from)
			if _, err := store.Replace(t.Context(), from); !errors.Is(err, want) {
				t.Errorf("%s, filled %t: %v, want %v", name, filled, err, want)
			}
			after, err := store.FeedCopy(t.Context())
			if err != nil || after.Seeded != filled || after.Head.Position != before.Head.Position {
				t.Errorf("%s, filled %t: the copy is %+v, %v", name, filled, after, err)
			}
			if kept, err := store.FeedSnapshot(t.Context(), 1000, 3, tagOf(from.Snapshot.Note)); !errors.Is(err, db.ErrNotFound) {
				t.Errorf("%s, filled %t: the snapshot %+v was kept, %v", name, filled, kept, err)
			}
		}
	}
	checkCopy(t, store, good.Head)
}

// Reads whose connection was lost are tried again on another one, unseen.
func TestReadsOutliveTheirConnection(t *testing.T) {
	dsn := dbtest.New(t, migrations.Site)
	store, err := sitedb.Open(t.Context(), pg.Config{DSN: dsn, Application: "mortal"})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	from, _ := snapshotOf(1, 30)
	if _, err := store.Replace(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	conn := dbtest.Connect(t, dsn)
	end := func() {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			var left int
			err := conn.QueryRow(t.Context(), `select count(pg_terminate_backend(pid)) from pg_stat_activity
				where application_name = 'mortal' and datname = current_database()`).Scan(&left)
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("%d connections stay: %v", left, err)
			}
			if left == 0 {
				return
			}
		}
	}
	for range 3 {
		end()
		if have, err := store.FeedCopy(t.Context()); err != nil || have.Head.Position != 1 {
			t.Errorf("reading the copy: %+v, %v", have, err)
		}
		end()
		look, err := store.Delta(t.Context(), 0, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		more, err := look.Changes(t.Context(), 0, 100, func(sitedb.CertificateChange) error { n++; return nil })
		if err != nil || more || n != 30 || look.Head.Position != 1 {
			t.Errorf("a Delta gives %d changes, more %t, at position %d, %v", n, more, look.Head.Position, err)
		}
		end()
		next := from.Head
		next.AsOf = next.AsOf.Add(time.Second)
		have, err := store.Apply(t.Context(), sitedb.FeedStep{Head: next, Note: db.FeedNote{Epoch: 1000, Number: 1, Position: 1, AsOf: next.AsOf, Note: []byte("note")}})
		if err != nil || !have.Head.AsOf.Equal(next.AsOf) || !have.Anchored {
			t.Errorf("confirming: %+v, %v", have, err)
		}
	}
	look, err := store.Delta(t.Context(), 0, 0, 29)
	if err != nil {
		t.Fatal(err)
	}
	if more, err := look.Changes(t.Context(), 0, 29, func(sitedb.CertificateChange) error { return nil }); err != nil || !more {
		t.Errorf("a Delta of 29 at 30 changes says more %t, %v", more, err)
	}
	if _, err := look.Changes(t.Context(), 7, 29, nil); err == nil {
		t.Error("a Delta gives changes that it did not read")
	}
}
