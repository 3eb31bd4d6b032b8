package feed

import (
	"fmt"
	"strings"

	"ocspfleet/db"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/mod/sumdb/note"
)

// Snapshot is the manifest of all rows at one position. Its Segment, Number and Previous name
// the newest segment sealed by then, which ends at or before Position: a copy made from the
// chunks continues with the next segment.
type Snapshot struct {
	Checkpoint
	Chunks []Chunk
}

// Chunk names one file of a snapshot.
type Chunk struct {
	Size int64 // octets on the wire
	Hash Hash
}

var errChunk = formError("the chunk is not of the form")

// Text returns the text to sign.
func (s *Snapshot) Text() string {
	var b strings.Builder
	b.WriteString(s.Checkpoint.text(snapshotSuffix))
	for _, c := range s.Chunks {
		fmt.Fprintf(&b, "chunk %d %s\n", c.Size, Base64(c.Hash))
	}
	return b.String()
}

// Size returns the length of all chunks, in octets.
func (s *Snapshot) Size() int64 {
	var n int64
	for _, c := range s.Chunks {
		n += c.Size
	}
	return n
}

// Sign returns the signed note of a snapshot.
func (s *Snapshot) Sign(signer note.Signer) ([]byte, error) {
	if _, err := ParseSnapshot(s.Text()); err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return sign(s.Text(), signer)
}

// ParseSnapshot reads a text, without a check of its signature.
func ParseSnapshot(text string) (*Snapshot, error) {
	c, rest, err := parseCheckpoint(text, snapshotSuffix)
	if err != nil {
		return nil, fmt.Errorf("reading a snapshot: %w", err)
	}
	s := &Snapshot{Checkpoint: *c}
	l := &lines{rest: rest}
	for l.next("chunk") && len(s.Chunks) < MaxChunks {
		f := l.fields("chunk", 2)
		chunk := Chunk{l.number(f[0]), l.hash(f[1])}
		if chunk.Size < 1 || chunk.Size > MaxChunk {
			l.fail("a chunk's size", f[0])
		}
		s.Chunks = append(s.Chunks, chunk)
	}
	switch {
	case l.err != nil:
		return nil, fmt.Errorf("reading a snapshot: %w", l.err)
	case l.rest != "" || s.Text() != text:
		return nil, fmt.Errorf("reading a snapshot: %w", errNote)
	}
	return s, nil
}

// OpenSnapshot reads a manifest that a key of the set signed.
func (k *KeySet) OpenSnapshot(signed []byte) (*Snapshot, error) {
	text, key, err := k.open(signed, MaxManifest)
	if err != nil {
		return nil, fmt.Errorf("reading a snapshot: %w", err)
	}
	s, err := ParseSnapshot(text)
	if err != nil {
		return nil, err
	}
	if err := k.admitCheckpoint(&s.Checkpoint, key); err != nil {
		return nil, fmt.Errorf("reading a snapshot: %w", err)
	}
	return s, nil
}

// OpenChunk returns the rows of chunk i, if b has the hash in the manifest.
func (s *Snapshot) OpenChunk(i int, b []byte) ([]db.Change, error) {
	if i < 0 || i >= len(s.Chunks) || int64(len(b)) != s.Chunks[i].Size || HashOf(b) != s.Chunks[i].Hash {
		return nil, fmt.Errorf("opening chunk %d: %w: it is not what the manifest names", i, ErrForged)
	}
	rows, err := parseChunk(b)
	if err != nil {
		return nil, fmt.Errorf("opening chunk %d: %w", i, err)
	}
	return rows, nil
}

func parseChunk(b []byte) ([]db.Change, error) {
	raw, err := unpack(b, MaxChunk)
	if err != nil {
		return nil, err
	}
	der := cryptobyte.String(raw)
	var in cryptobyte.String
	if !der.ReadASN1(&in, asn1.SEQUENCE) || !der.Empty() {
		return nil, errChunk
	}
	rows, err := readEntries(in, 0, MaxChunk)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		if rows[i].Deleted {
			return nil, fmt.Errorf("%w: a row that is gone", errChunk)
		}
		rows[i].Position = 0 // a snapshot's row has no position
	}
	return rows, nil
}

// Chunker splits rows into chunks; the manifest names them in their order.
type Chunker struct {
	// Write stores a chunk in its form on the wire.
	Write  func(i int, b []byte) error
	Chunks []Chunk // those written
	der    []byte  // entries of the open chunk
}

// Add takes one row.
func (c *Chunker) Add(row db.Change) error {
	b := cryptobyte.NewBuilder(c.der)
	addEntry(b, row)
	der, err := b.Bytes()
	if err != nil {
		return fmt.Errorf("cutting a snapshot: %w", err)
	}
	c.der = der
	if len(c.der) >= chunkTarget {
		return c.flush()
	}
	return nil
}

// Close writes the rest.
func (c *Chunker) Close() error {
	if len(c.der) == 0 {
		return nil
	}
	return c.flush()
}

func (c *Chunker) flush() error {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(c.der)+8))
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(c.der) })
	der, err := b.Bytes()
	if err != nil {
		return fmt.Errorf("cutting a snapshot: %w", err)
	}
	body, err := pack(der)
	if err != nil {
		return fmt.Errorf("cutting a snapshot: %w", err)
	}
	if len(c.Chunks) == MaxChunks {
		return fmt.Errorf("cutting a snapshot: more than %d chunks", MaxChunks)
	}
	if err := c.Write(len(c.Chunks), body); err != nil {
		return fmt.Errorf("writing chunk %d: %w", len(c.Chunks), err)
	}
	c.Chunks = append(c.Chunks, Chunk{int64(len(body)), HashOf(body)})
	c.der = c.der[:0]
	return nil
}
