package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/keyset"
	"ocspfleet/db"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"

	"golang.org/x/mod/sumdb/note"
)

// textOf returns a note's text: all before the empty line, which the signatures follow.
func textOf(signed []byte) string {
	return string(signed[:bytes.LastIndex(signed, []byte("\n\n"))+1])
}

// file is a file that was read. rows returns its changes or rows in order; nil: it has none.
type file struct {
	kind   string
	record cli.Record
	rows   func(each func(db.Change) error) error
}

// open finds out the kind of the octets, and verifies them if there is a key set.
func (r *reader) open(ctx context.Context, raw []byte, now time.Time) (file, error) {
	text := textOf(raw)
	first, _, _ := strings.Cut(text, "\n")
	switch {
	case len(raw) > 0 && raw[0] == 0x30:
		return r.openSegment(raw, now)
	case strings.HasSuffix(first, "/keys"):
		return r.openKeySet(raw)
	case strings.HasSuffix(first, "/snapshot"):
		return r.openSnapshot(ctx, raw, now)
	}
	c, err := feed.ParseCheckpoint(text)
	if err == nil && r.set != nil {
		c, err = r.set.OpenCheckpoint(raw)
	}
	if err != nil {
		return file{}, err
	}
	return file{kind: "checkpoint", record: checkpoint("checkpoint", c, now)}, nil
}

func (r *reader) openKeySet(raw []byte) (file, error) {
	set, err := feed.ParseKeySet(textOf(raw))
	if err == nil && r.set != nil {
		var root note.Verifier
		if root, err = r.verifier(); err == nil {
			set, err = feed.OpenKeySet(raw, root.Name(), root)
		}
	}
	if err != nil {
		return file{}, err
	}
	return file{kind: "keys", record: keySet(set)}, nil
}

func (r *reader) openSegment(raw []byte, now time.Time) (file, error) {
	sealed, err := feed.ParseSealed(raw)
	if err != nil {
		return file{}, err
	}
	var c *feed.Checkpoint
	var s *feed.Segment
	if r.set != nil {
		c, s, err = r.set.Open(sealed)
	} else if c, err = feed.ParseCheckpoint(textOf(sealed.Note)); err == nil {
		s, err = feed.ParseSegment(sealed.Body)
	}
	if err != nil {
		return file{}, err
	}
	return file{"segment", segment(c, s, len(sealed.Body), now), func(each func(db.Change) error) error {
		for _, change := range s.Changes {
			if err := each(change); err != nil {
				return err
			}
		}
		return nil
	}}, nil
}

func (r *reader) openSnapshot(ctx context.Context, raw []byte, now time.Time) (file, error) {
	s, err := feed.ParseSnapshot(textOf(raw))
	if err == nil && r.set != nil {
		s, err = r.set.OpenSnapshot(raw)
	}
	if err != nil {
		return file{}, err
	}
	rows := func(each func(db.Change) error) error { return r.chunks(ctx, s, feedhttp.Tag(raw), each) }
	if r.client == nil {
		rows = nil
	} else if r.set != nil && !r.Entries {
		// The chunks are as signed if their hashes are; this checks that they have the rows that
		// the manifest counts.
		err = rows(func(db.Change) error { return nil })
	}
	return file{"snapshot", snapshot(s, now), rows}, err
}

// chunks fetches a snapshot's chunks, and counts and digests their rows.
func (r *reader) chunks(ctx context.Context, s *feed.Snapshot, tag string, each func(db.Change) error) error {
	tallies := map[string]*db.Tally{}
	for _, t := range s.Tallies {
		tallies[t.Table] = &db.Tally{}
	}
	for i := range s.Chunks {
		body, err := r.client.Chunk(ctx, s.Epoch, s.Position, tag, i)
		if err != nil {
			return err
		}
		rows, err := s.OpenChunk(i, body)
		if err != nil {
			return fmt.Errorf("%w: %w", keyset.ErrNotAsSigned, err)
		}
		for _, row := range rows {
			t, err := db.FeedTableOf(row.Table)
			if err != nil {
				return err
			}
			if tallies[t.Name] == nil {
				return fmt.Errorf("%w: a row of %s, which the manifest does not count", keyset.ErrNotAsSigned, t.Name)
			}
			tallies[t.Name].Add(row.Content)
			if err := each(row); err != nil {
				return err
			}
		}
	}
	for _, t := range s.Tallies {
		if *tallies[t.Table] != t.Tally {
			return fmt.Errorf("%w: %s has %d rows, the manifest says %d, or the digests differ", keyset.ErrNotAsSigned, t.Table, tallies[t.Table].Count, t.Count)
		}
	}
	return nil
}

// printEntries prints the changes as NDJSON, for any --output.
func (f file) printEntries(p *cli.Program) error {
	if f.rows == nil {
		return cli.Usagef("--entries: a %s from here has none (a segment has; a snapshot by its URL)", f.kind)
	}
	enc := json.NewEncoder(p.Stdout)
	enc.SetEscapeHTML(false)
	return keyset.Judged(f.rows(func(c db.Change) error {
		r, err := entry(c)
		if err != nil {
			return err
		}
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("writing the entries: %w", err)
		}
		return nil
	}))
}
