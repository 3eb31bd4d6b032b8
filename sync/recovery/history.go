package recovery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"

	"golang.org/x/mod/sumdb/note"
)

// History is the signed history of the feed, as far as a source has it: all rows of a snapshot,
// or only the changes since the last segment that the master also has, and the segments after
// that.
type History struct {
	Checkpoint *feed.Checkpoint // of the newest segment
	KeySet     int64
	// Issuers and the rest are in their state at the checkpoint.
	Issuers     map[db.IssuerID]db.Issuer
	Responders  []db.ResponderCertificate
	Pins        [][]byte // TLS keys that are closed
	Corrections []db.Correction

	snapshot *feed.Snapshot // nil: the history begins where the master's ends
	chunks   [][]byte
	state    map[string]db.Change // by table and key: rows changed by segments, and every row that is not a certificate
}

// ErrUnpublished says that no key signs this fleet's feed: only the CA's own list says what was
// issued.
var ErrUnpublished = errors.New("this fleet's feed was never published: issued certificates and holds that the master lost stand in the CA's own list alone: ocspctl cert import (docs/import.md)")

// Read verifies the files of a source, by the newest key set of this master and of the source:
// the signatures of the snapshot and of each segment, and that they lead to the source's newest
// checkpoint. db.ErrNotFound says that the source has no signed files.
func Read(ctx context.Context, master *masterdb.DB, root note.Verifier, from Source) (*History, error) {
	set, err := newestSet(ctx, master, root, from)
	if err != nil {
		return nil, err
	}
	signed, err := from.Checkpoint(ctx)
	if err != nil {
		return nil, fromSource(from, err)
	}
	newest, err := set.OpenCheckpoint(signed)
	if err != nil {
		return nil, fromSource(from, err)
	}
	h := &History{KeySet: set.Number, Issuers: map[db.IssuerID]db.Issuer{}, state: map[string]db.Change{}}
	chain, err := h.begin(ctx, master, set, from, newest)
	if err != nil {
		return nil, err
	}
	for chain.Number() < newest.Number {
		sealed, err := from.Segment(ctx, newest.Epoch, chain.Number()+1)
		if lacks(err) {
			err = fmt.Errorf("%w: segment %d is not to be had: ask another site", feed.ErrGap, chain.Number()+1)
		}
		if err != nil {
			return nil, fromSource(from, err)
		}
		_, segment, err := chain.Next(sealed)
		if err == nil {
			err = h.take(segment.Changes)
		}
		if err != nil {
			return nil, fromSource(from, err)
		}
	}
	h.Checkpoint = newest
	if last := chain.Last(); last != nil && last.Position > newest.Position {
		h.Checkpoint = last // a snapshot may be ahead
	}
	return h, h.lists()
}

// newestSet returns the key set in force among those of the master and of the source: a
// restored master may have an older one.
func newestSet(ctx context.Context, master *masterdb.DB, root note.Verifier, from Source) (*feed.KeySet, error) {
	here, err := master.FeedKeySets(ctx)
	if err != nil {
		return nil, err
	}
	there, err := from.Keys(ctx)
	if err != nil {
		return nil, fromSource(from, err)
	}
	set, _, err := feed.NewestKeySet(slices.Concat(here, there), root.Name(), root)
	if lacks(err) || err == nil && len(set.Keys) == 0 {
		return nil, ErrUnpublished
	}
	return set, fromSource(from, err)
}

// begin finds the start of the segments to read: the source's newest snapshot, else the newest
// segment that both the source and the master have.
func (h *History) begin(ctx context.Context, master *masterdb.DB, set *feed.KeySet, from Source, newest *feed.Checkpoint) (*feed.Chain, error) {
	signed, err := from.Snapshot(ctx, newest.Epoch)
	if lacks(err) {
		return h.common(ctx, master, set, from, newest)
	}
	if err == nil {
		h.snapshot, err = set.OpenSnapshot(signed)
	}
	for i := 0; err == nil && i < len(h.snapshot.Chunks); i++ {
		var body []byte
		if body, err = from.Chunk(ctx, h.snapshot.Epoch, h.snapshot.Position, feedhttp.Tag(signed), i); err == nil {
			h.chunks = append(h.chunks, body)
		}
	}
	if err == nil {
		err = h.rows(func(row db.Change) error {
			if row.Table == db.CertificateTable {
				return nil
			}
			return h.keep(row)
		})
	}
	if err != nil {
		return nil, fromSource(from, err)
	}
	return set.After(h.snapshot), nil
}

// common goes back from the newest segment of both until they agree.
func (h *History) common(ctx context.Context, master *masterdb.DB, set *feed.KeySet, from Source, newest *feed.Checkpoint) (*feed.Chain, error) {
	issuers, err := master.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	for _, i := range issuers { // the same history, so the same numbers
		h.Issuers[i.ID] = i
	}
	for number := newest.Number; number > 0; number-- {
		here, err := master.FeedSeal(ctx, newest.Epoch, number)
		if lacks(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		there, err := from.Segment(ctx, newest.Epoch, number)
		if lacks(err) {
			return nil, fromSource(from, fmt.Errorf("%w: it has no snapshot, and no segment %d that this master has too: ask another site", feed.ErrGap, number))
		}
		if err != nil {
			return nil, fromSource(from, err)
		}
		if feed.HashOf(there.Body) == feed.Hash(here.Hash) {
			seal, err := set.OpenCheckpoint(here.Note)
			return set.AfterSeal(seal), err
		}
	}
	return set.AfterSeal(nil), nil
}

// rows passes the snapshot's rows to each; every chunk is verified again.
func (h *History) rows(each func(db.Change) error) error {
	for i, body := range h.chunks {
		rows, err := h.snapshot.OpenChunk(i, body)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := each(row); err != nil {
				return err
			}
		}
	}
	return nil
}

// take adds the changes of a segment, except those that the snapshot already has.
func (h *History) take(changes []db.Change) error {
	for _, c := range changes {
		if h.snapshot != nil && c.Position <= h.snapshot.Position {
			continue
		}
		if err := h.keep(c); err != nil {
			return err
		}
	}
	return nil
}

func (h *History) keep(c db.Change) error {
	key, err := keyOf(c)
	if err == nil {
		h.state[key] = db.Change{Table: c.Table, Deleted: c.Deleted, Content: slices.Clone(c.Content)}
	}
	return err
}

func keyOf(c db.Change) (string, error) {
	t, err := db.FeedTableOf(c.Table)
	if err != nil {
		return "", err
	}
	key, err := t.KeyOf(c.Content)
	return string(c.Table) + key, err
}

// lists reads the rows that are not certificates, in their final state.
func (h *History) lists() error {
	for _, key := range slices.Sorted(maps.Keys(h.state)) {
		c := h.state[key]
		if c.Deleted {
			continue
		}
		switch c.Table {
		case db.IssuerTable:
			i, err := db.ParseIssuer(c.Content)
			if err != nil {
				return err
			}
			h.Issuers[i.ID] = i
		case db.ResponderTable:
			r, err := db.ParseResponderCertificate(c.Content)
			if err != nil {
				return err
			}
			h.Responders = append(h.Responders, r)
		case db.PinTable:
			h.Pins = append(h.Pins, c.Content)
		case db.CorrectionTable:
			k, err := db.ParseCorrection(c.Content)
			if err != nil {
				return err
			}
			h.Corrections = append(h.Corrections, k)
		}
	}
	return nil
}

// Certificates passes each certificate in its final state to each, in no order: all of a
// snapshot, or those that changed since. The serial is valid during the call.
func (h *History) Certificates(each func(db.IssuerID, db.Serial, db.Status) error) error {
	hand := func(c db.Change) error {
		issuer, serial, status, err := db.ParseCertificate(c.Content)
		if err != nil {
			return err
		}
		return each(issuer, serial, status)
	}
	err := h.rows(func(row db.Change) error {
		if row.Table != db.CertificateTable {
			return nil
		}
		key, err := keyOf(row)
		if _, later := h.state[key]; err != nil || later {
			return err
		}
		return hand(row)
	})
	if err != nil {
		return err
	}
	for _, c := range h.state {
		if c.Table == db.CertificateTable && !c.Deleted {
			if err := hand(c); err != nil {
				return err
			}
		}
	}
	return nil
}
