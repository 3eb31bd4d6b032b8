package feed

import (
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/mod/sumdb/note"
)

// Sealed is a segment with the checkpoint signed at its seal. It is stored and served, and can
// be verified without any other file.
type Sealed struct {
	Note []byte // the sealing checkpoint, signed
	Body []byte // of the segment
}

var errSealed = formError("the sealed segment is not of the form")

// Seal signs a checkpoint over a segment's body. Seal sets the checkpoint's position, number
// and hash; the caller sets the rest.
func Seal(s *Segment, c *Checkpoint, signer note.Signer) (Sealed, error) {
	body, err := s.Marshal()
	if err != nil {
		return Sealed{}, err
	}
	if c.Position != s.Last || c.Epoch != s.Epoch {
		return Sealed{}, fmt.Errorf("sealing segment %d: the checkpoint is for position %d of epoch %d, the segment ends at %d of %d",
			s.Number, c.Position, c.Epoch, s.Last, s.Epoch)
	}
	c.Number, c.Segment = s.Number, HashOf(body)
	signed, err := c.Sign(signer)
	if err != nil {
		return Sealed{}, fmt.Errorf("sealing segment %d: %w", s.Number, err)
	}
	return Sealed{Note: signed, Body: body}, nil
}

// Sign returns the signed note of a checkpoint.
func (c *Checkpoint) Sign(signer note.Signer) ([]byte, error) {
	if _, err := ParseCheckpoint(c.Text()); err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return sign(c.Text(), signer)
}

// Marshal returns the file served as /feed/segment/N.
func (s Sealed) Marshal() ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(s.Note)+len(s.Body)+16))
	s.Add(b)
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("writing a sealed segment: %w", err)
	}
	return der, nil
}

func (s Sealed) Add(b *cryptobyte.Builder) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes(s.Note) })
		b.AddASN1OctetString(s.Body)
	})
}

// ParseSealed splits the file, without verifying it.
func ParseSealed(der []byte) (Sealed, error) {
	in := cryptobyte.String(der)
	var outer, text, body cryptobyte.String
	if len(der) > MaxSealed || !in.ReadASN1(&outer, asn1.SEQUENCE) || !in.Empty() || !outer.ReadASN1(&text, asn1.UTF8String) ||
		!outer.ReadASN1(&body, asn1.OCTET_STRING) || !outer.Empty() || len(text) > MaxNote {
		return Sealed{}, fmt.Errorf("reading a sealed segment: %w", errSealed)
	}
	return Sealed{Note: text, Body: body}, nil
}

// Open verifies a sealed segment: the signature of its checkpoint, and that the body is the
// signed one. Nothing is decompressed before.
func (k *KeySet) Open(s Sealed) (*Checkpoint, *Segment, error) {
	c, err := k.OpenCheckpoint(s.Note)
	if err != nil {
		return nil, nil, err
	}
	if HashOf(s.Body) != c.Segment {
		return nil, nil, fmt.Errorf("opening segment %d: %w: the body is another one", c.Number, ErrForged)
	}
	segment, err := ParseSegment(s.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("opening segment %d: %w", c.Number, err)
	}
	if segment.Number != c.Number || segment.Epoch != c.Epoch || segment.Last != c.Position {
		return nil, nil, fmt.Errorf("opening segment %d: %w: it says number %d, epoch %d, position %d", c.Number, errSealed, segment.Number, segment.Epoch, segment.Last)
	}
	return c, segment, nil
}
