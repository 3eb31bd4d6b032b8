package feed

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"ocspfleet/db"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Hash is a SHA-256.
type Hash [sha256.Size]byte

// Segment is a sequence of changes in commit order, without a gap.
type Segment struct {
	Epoch    int64
	Number   int64 // dense from 1 within an epoch
	First    int64 // position of the first change
	Last     int64 // position of the last one
	Previous Hash  // of the segment before; zeros before the first
	// SnapshotRequired says that the changes First to Last are left out, because they are too
	// many: a copy before them takes a snapshot.
	SnapshotRequired bool
	Changes          []db.Change // Last-First+1 of them, or none if a snapshot is required
}

var errSegment = formError("the segment is not of the form")

// formVersion is the version of segments and chunks.
const formVersion = 1

// Marshal returns the segment's body: DER, compressed if that makes it shorter. The body's
// SHA-256 is the segment's hash.
func (s *Segment) Marshal() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("writing segment %d: %w", s.Number, err)
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, 64+40*len(s.Changes)))
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, n := range []int64{formVersion, s.Epoch, s.Number, s.First, s.Last} {
			b.AddASN1Int64(n)
		}
		b.AddASN1OctetString(s.Previous[:])
		if s.SnapshotRequired {
			return
		}
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, c := range s.Changes {
				addEntry(b, c)
			}
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("writing segment %d: %w: %w", s.Number, ErrUnfit, err)
	}
	if len(der) > MaxSegment {
		return nil, fmt.Errorf("writing segment %d: %w: %d octets", s.Number, ErrUnfit, len(der))
	}
	return pack(der)
}

// ErrUnfit says that changes are too many for one segment, or that one of them is not a row
// that the feed can carry (a superuser wrote it): they are sealed as "snapshot required".
var ErrUnfit = errors.New("the changes do not fit into a segment")

func (s *Segment) check() error {
	count := s.Last - s.First + 1
	switch {
	case s.Epoch < 1 || s.Number < 1 || s.First < 1 || count < 1:
		return fmt.Errorf("%w: epoch %d, number %d, positions %d to %d", errSegment, s.Epoch, s.Number, s.First, s.Last)
	case (s.Number == 1) != (s.Previous == Hash{}):
		return fmt.Errorf("%w: the first segment has no previous one, any other has", errSegment)
	case s.SnapshotRequired && len(s.Changes) > 0:
		return fmt.Errorf("%w: a segment that requires a snapshot has changes", errSegment)
	case s.SnapshotRequired:
		return nil
	case count > MaxEntries:
		return fmt.Errorf("%w: %d changes", ErrUnfit, count)
	case int64(len(s.Changes)) != count:
		return fmt.Errorf("%w: %d changes for positions %d to %d", errSegment, len(s.Changes), s.First, s.Last)
	}
	for i, c := range s.Changes {
		if c.Position != s.First+int64(i) {
			return fmt.Errorf("%w: position %d stands where %d belongs", errSegment, c.Position, s.First+int64(i))
		}
	}
	return nil
}

// ParseSegment reads what Marshal wrote, strictly: one form for one content. The
// changes share memory with the decompressed body.
func ParseSegment(body []byte) (*Segment, error) {
	der, err := unpack(body, MaxSegment)
	if err != nil {
		return nil, fmt.Errorf("reading a segment: %w", err)
	}
	s, err := parseSegment(der)
	if err != nil {
		return nil, fmt.Errorf("reading a segment: %w", err)
	}
	return s, nil
}

func parseSegment(der cryptobyte.String) (*Segment, error) {
	var in, previous cryptobyte.String
	var s Segment
	var version int64
	if !der.ReadASN1(&in, asn1.SEQUENCE) || !der.Empty() {
		return nil, errSegment
	}
	for _, n := range []*int64{&version, &s.Epoch, &s.Number, &s.First, &s.Last} {
		if !in.ReadASN1Integer(n) {
			return nil, errSegment
		}
	}
	if version != formVersion {
		return nil, fmt.Errorf("%w: version %d, this program reads %d", errSegment, version, formVersion)
	}
	if !in.ReadASN1(&previous, asn1.OCTET_STRING) || len(previous) != len(s.Previous) {
		return nil, errSegment
	}
	s.Previous = Hash(previous)
	s.SnapshotRequired = in.Empty()
	if !s.SnapshotRequired {
		var entries cryptobyte.String
		if !in.ReadASN1(&entries, asn1.SEQUENCE) || !in.Empty() {
			return nil, errSegment
		}
		var err error
		if s.Changes, err = readEntries(entries, s.First, MaxEntries); err != nil {
			return nil, err
		}
	}
	return &s, s.check()
}

// readEntries reads entries to the end, and numbers them from first on.
func readEntries(entries cryptobyte.String, first int64, limit int) ([]db.Change, error) {
	// An entry has at least 8 octets.
	changes := make([]db.Change, 0, min(limit, len(entries)/8+1))
	for !entries.Empty() {
		if len(changes) == limit {
			return nil, fmt.Errorf("%w: more than %d entries", errEntry, limit)
		}
		c, err := readEntry(&entries)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(changes)+1, err)
		}
		c.Position = first + int64(len(changes))
		changes = append(changes, c)
	}
	return changes, nil
}

// HashOf returns the hash of a segment's body, a chunk or a note's text.
func HashOf(b []byte) Hash { return sha256.Sum256(b) }
