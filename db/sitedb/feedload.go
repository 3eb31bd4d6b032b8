package sitedb

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// chunk is one chunk of a snapshot, ready to be written.
type chunk struct {
	body         []byte      // as it is carried
	rows         []db.Change // of all tables
	certificates []byte      // the rows of certificate among them, in the form of COPY; nil: none
	err          error
}

// loadChunks writes the snapshot's rows, and refuses them if they differ from the signed counts
// and digests. While one chunk is written, the next one is fetched, verified and counted.
func (from FeedSeed) loadChunks(ctx context.Context, s *seed) error {
	ctx, cancel := context.WithCancel(ctx)
	ready := make(chan chunk, 1)
	manifest, err := keepManifest(ctx, s.tx, from.Snapshot)
	if err != nil {
		cancel()
		return err
	}
	var ahead sync.WaitGroup
	defer ahead.Wait()
	defer cancel()
	var counted db.Head
	ahead.Go(func() {
		defer close(ready)
		for i := range from.Chunks {
			c := from.prepare(ctx, i, &counted)
			select {
			case ready <- c:
			case <-ctx.Done():
				return
			}
			if c.err != nil {
				return
			}
		}
	})
	n := 0
	for c := range ready {
		if c.err != nil {
			return c.err
		}
		if err := s.write(ctx, c); err != nil {
			return err
		}
		if err := keepChunk(ctx, s.tx, manifest, n, c.body); err != nil {
			return err
		}
		n++
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, t := range db.FeedTables {
		if got, want := *t.Tally(&counted), *t.Tally(&from.Head); got != want {
			return fmt.Errorf("%w: the snapshot's %s has %d rows with digest %x, signed are %d with %x", ErrDiverged, t.Name, got.Count, got.Digest, want.Count, want.Digest)
		}
	}
	return nil
}

// prepare fetches chunk i, and counts its rows into the tallies of counted.
func (from FeedSeed) prepare(ctx context.Context, i int, counted *db.Head) (c chunk) {
	if c.body, c.rows, c.err = from.Chunk(ctx, i); c.err != nil {
		return c
	}
	for _, row := range c.rows {
		var t db.FeedTable
		if t, c.err = db.FeedTableOf(row.Table); c.err != nil {
			return c
		}
		t.Tally(counted).Add(row.Content)
		if row.Table != db.CertificateTable {
			continue
		}
		if c.certificates == nil {
			c.certificates = append(make([]byte, 0, 64*len(c.rows)), pg.CopySignature...)
			c.certificates = append(c.certificates, make([]byte, 8)...) // no flags, no extension
		}
		if c.certificates, c.err = appendCopyRow(c.certificates, row.Content); c.err != nil {
			return c
		}
	}
	if c.certificates != nil {
		c.certificates = binary.BigEndian.AppendUint16(c.certificates, math.MaxUint16) // -1: the end
	}
	return c
}

// appendCopyRow appends a row of certificate in the form of COPY BINARY, from its canonical bytes:
// the fields are the same, except for their lengths and nulls.
func appendCopyRow(dst, content []byte) ([]byte, error) {
	_, serial, _, err := db.ParseCertificate(content)
	if err != nil {
		return nil, err
	}
	field := func(b []byte, null bool) {
		if null {
			dst = binary.BigEndian.AppendUint32(dst, math.MaxUint32)
			return
		}
		dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(b))), b...)
	}
	times := content[6+len(serial):]
	dst = binary.BigEndian.AppendUint16(dst, 5)
	field(content[:4], false)
	field(serial, false)
	field(times[:8], false)
	field(times[8:16], int64(binary.BigEndian.Uint64(times[8:])) == db.NullTime)
	field(times[16:18], int16(binary.BigEndian.Uint16(times[16:])) < 0)
	return dst, nil
}

// write copies the rows of one chunk into their tables.
func (s *seed) write(ctx context.Context, c chunk) error {
	if c.certificates != nil {
		_, err := s.tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(c.certificates),
			"copy "+s.prefix+"certificate (issuer_id, serial, not_after, revoked_at, reason) from stdin (format binary)")
		if err != nil {
			return fmt.Errorf("writing certificates: %w", err)
		}
	}
	for _, t := range db.FeedTables {
		if t.Code == db.CertificateTable {
			continue
		}
		if err := copyRows(ctx, t, s.tx, s.prefix, c.rows); err != nil {
			return err
		}
	}
	return nil
}

// copyRows copies those of the rows that belong to this table.
func copyRows(ctx context.Context, t db.FeedTable, tx pgx.Tx, prefix string, rows []db.Change) error {
	var values [][]any
	for _, row := range rows {
		if row.Table != t.Code {
			continue
		}
		v, err := t.Values(row.Content)
		if err != nil {
			return err
		}
		values = append(values, v)
	}
	if len(values) == 0 {
		return nil
	}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{prefix + t.Name}, t.Columns, pgx.CopyFromRows(values)); err != nil {
		return fmt.Errorf("writing %s: %w", t.Name, err)
	}
	return nil
}
