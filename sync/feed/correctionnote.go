package feed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"ocspfleet/db"

	"golang.org/x/mod/sumdb/note"
)

// CorrectionNote undoes one state of a permanently revoked certificate. The second of two
// persons signs it, with a key that the key set names only for corrections: neither the master
// nor a feed key can make one. The note is stored and sent in the row of correction
// (db.Correction).
type CorrectionNote struct {
	Origin   string
	Issuer   Hash // db.Issuer.Key: SHA-256 of the subject and SubjectPublicKeyInfo
	Serial   db.Serial
	Was      db.Status // the state that it undoes, and no other; whole seconds
	Wrong    db.Wrong
	NotAfter time.Time // the correct end, of db.WrongNotAfter; else zero
	// CorrectedAt is when the correction was requested, by the master's clock.
	CorrectedAt time.Time
}

// Notes is what the second person signs of a request for a correction: this note for each
// certificate that is revoked for ever. The others need none.
func (n CorrectionNote) Notes(taken []db.Taken) []CorrectionNote {
	var notes []CorrectionNote
	for _, c := range taken {
		if was := c.Status(); was.Permanent() {
			n.Serial, n.Was = c.Serial, was
			notes = append(notes, n)
		}
	}
	return notes
}

const (
	// MaxCorrectionNote bounds a correction's note in the table and on the wire: the form needs
	// about 700 octets at most.
	MaxCorrectionNote = 1024

	correctionSuffix = "/correction"
)

// Text returns the text to sign.
func (n *CorrectionNote) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s\nissuer %s\nserial %s\n", n.Origin, correctionSuffix, Base64(n.Issuer), n.Serial)
	fmt.Fprintf(&b, "revoked %s %s\nnot_after %s\n", Stamp(n.Was.RevokedAt), reasonName(n.Was.Reason), Stamp(n.Was.NotAfter))
	if n.Wrong == db.WrongNotAfter {
		fmt.Fprintf(&b, "wrong %s %s\n", n.Wrong, Stamp(n.NotAfter))
	} else {
		fmt.Fprintf(&b, "wrong %s\n", n.Wrong)
	}
	fmt.Fprintf(&b, "corrected_at %s\n", Stamp(n.CorrectedAt))
	return b.String()
}

// Hash returns the hash of the text, without the signature.
func (n *CorrectionNote) Hash() Hash { return HashOf([]byte(n.Text())) }

// Sign returns the signed note; the signer is a key that the key set names as `correct`.
func (n *CorrectionNote) Sign(signer note.Signer) ([]byte, error) {
	if _, err := ParseCorrectionNote(n.Text()); err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return sign(n.Text(), signer)
}

// ParseCorrectionNote reads a text, without a check of its signature.
func ParseCorrectionNote(text string) (*CorrectionNote, error) {
	l := &lines{rest: text}
	n := &CorrectionNote{}
	n.Origin = l.suffixed(correctionSuffix)
	n.Issuer, n.Serial = l.hash(l.value("issuer")), l.serial(l.value("serial"))
	n.Was.Revoked = true
	n.Was.RevokedAt, n.Was.Reason = l.revocation(l.value("revoked"))
	n.Was.NotAfter = l.time(l.value("not_after"))
	wrong, end, _ := strings.Cut(l.value("wrong"), " ")
	n.Wrong = db.Wrong(wrong)
	if n.Wrong == db.WrongNotAfter {
		n.NotAfter = l.time(end)
	}
	n.CorrectedAt = l.time(l.value("corrected_at"))
	if l.err == nil && (n.Text() != text || l.rest != "") {
		l.err = fmt.Errorf("%w: it is written in another way than ours", errNote)
	}
	if l.err == nil {
		l.err = CheckOrigin(n.Origin)
	}
	if l.err == nil {
		l.err = n.check()
	}
	if l.err != nil {
		return nil, fmt.Errorf("reading a correction: %w", l.err)
	}
	return n, nil
}

// check checks the content of a correction.
func (n *CorrectionNote) check() error {
	for _, t := range []time.Time{n.Was.RevokedAt, n.Was.NotAfter, n.NotAfter, n.CorrectedAt} {
		if t.Nanosecond() != 0 {
			return fmt.Errorf("%w: %s is no whole second", errNote, Stamp(t))
		}
	}
	switch {
	case n.Wrong != db.WrongRevoked && n.Wrong != db.WrongIssued && n.Wrong != db.WrongNotAfter:
		return fmt.Errorf("%w: %q is none of revoked, issued and not_after", errNote, n.Wrong)
	case !n.Was.Permanent():
		return fmt.Errorf("%w: a revocation of reason %s is no permanent one", errNote, reasonName(n.Was.Reason))
	case n.Wrong == db.WrongNotAfter && n.NotAfter.Equal(n.Was.NotAfter):
		return fmt.Errorf("%w: it ends at %s already", errNote, Stamp(n.NotAfter))
	}
	return nil
}

// OpenCorrection reads a correction that a `correct` key of the set has signed, within the
// key's time. CheckCorrections checks those of a retired key.
func (k *KeySet) OpenCorrection(signed []byte) (*CorrectionNote, error) {
	n, _, err := k.openCorrection(signed)
	return n, err
}

func (k *KeySet) openCorrection(signed []byte) (*CorrectionNote, FeedKey, error) {
	fail := func(err error) (*CorrectionNote, FeedKey, error) {
		return nil, FeedKey{}, fmt.Errorf("reading a correction: %w", err)
	}
	text, key, err := openBy(k.Correct, signed, MaxCorrectionNote)
	if err != nil {
		return fail(err)
	}
	n, err := ParseCorrectionNote(text)
	switch {
	case err != nil:
		return nil, FeedKey{}, err
	case n.Origin != k.Origin:
		return fail(fmt.Errorf("%w: its origin is %q, this feed is %q", ErrForged, n.Origin, k.Origin))
	case bytes.Count(signed[len(text):], []byte("\n")) != 2: // else another row with the same meaning could be made
		return fail(fmt.Errorf("%w: a correction bears one signature", ErrForged))
	case n.CorrectedAt.Before(key.From) || !n.CorrectedAt.Before(key.Until):
		return fail(fmt.Errorf("%w: the key is for %s to %s, this is of %s", ErrForged, Stamp(key.From), Stamp(key.Until), Stamp(n.CorrectedAt)))
	}
	return n, key, nil
}

// Row says whether this is the note of a row of correction, for an issuer with this key hash:
// it must have the same serial and times.
func (n *CorrectionNote) Row(c db.Correction, issuer [32]byte) bool {
	return n.Issuer == issuer && bytes.Equal(n.Serial, c.Serial) && n.Was.RevokedAt.Equal(c.RevokedAt) && n.CorrectedAt.Equal(c.CorrectedAt)
}

// CheckCorrections verifies all corrections of a copy: the result has one entry for each note,
// nil if it does not verify. Those of a retired key count only if they are exactly those of its
// line. A copy that has fewer is still receiving them, and each counts as if the key were in
// use.
func (k *KeySet) CheckCorrections(notes [][]byte) []*CorrectionNote {
	opened := make([]*CorrectionNote, len(notes))
	by := map[string][]int{}
	for i, signed := range notes {
		n, key, err := k.openCorrection(signed)
		if err != nil {
			continue
		}
		opened[i] = n
		by[key.Verifier] = append(by[key.Verifier], i)
	}
	for _, key := range k.Correct {
		made := by[key.Verifier]
		if key.Retired == nil || len(made) == 0 {
			continue
		}
		var texts []*CorrectionNote
		for _, i := range made {
			texts = append(texts, opened[i])
		}
		if got := SumCorrections(texts); got.Number >= key.Retired.Number && got != *key.Retired {
			for _, i := range made {
				opened[i] = nil
			}
		}
	}
	return opened
}

// SumCorrections returns the content of a retired `correct` key's line: how many corrections it
// made, and SHA-256 over the sorted hashes of their texts; equal texts count once.
func SumCorrections(made []*CorrectionNote) Retired {
	hashes := make([]Hash, len(made))
	for i, n := range made {
		hashes[i] = n.Hash()
	}
	slices.SortFunc(hashes, func(a, b Hash) int { return bytes.Compare(a[:], b[:]) })
	hashes = slices.Compact(hashes)
	sum := sha256.New()
	for _, h := range hashes {
		sum.Write(h[:])
	}
	return Retired{Number: int64(len(hashes)), Hash: Hash(sum.Sum(nil))}
}

// reasonName returns RFC 5280's name, or `unspecified`.
func reasonName(r db.Reason) string {
	if name := r.String(); name != "" {
		return name
	}
	return "unspecified"
}

// serial reads a serial in lower-case hex.
func (l *lines) serial(text string) db.Serial {
	serial, err := hex.DecodeString(text)
	if err != nil || db.Serial(serial).Check() != nil {
		l.fail("a serial", text)
	}
	return serial
}

// revocation reads a time and a reason.
func (l *lines) revocation(value string) (time.Time, db.Reason) {
	text, name, _ := strings.Cut(value, " ")
	at := l.time(text)
	if at.IsZero() || name == "" {
		l.fail("a revocation", value)
	}
	reason, err := db.ParseReason(name)
	if err != nil {
		l.fail("a reason", name)
	}
	return at, reason
}
