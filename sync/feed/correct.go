package feed

import (
	"fmt"
	"slices"
	"strings"

	"ocspfleet/db"
)

// SignCorrections signs notes with a `correct` key of the set, and verifies each as a site does.
func (k *KeySet) SignCorrections(key *Key, notes []CorrectionNote) ([]db.SignedCorrection, error) {
	if err := k.corrects(key); err != nil {
		return nil, err
	}
	signed := make([]db.SignedCorrection, len(notes))
	for i, n := range notes {
		note, err := n.Sign(key)
		if err == nil {
			_, err = k.OpenCorrection(note)
		}
		if err != nil {
			return nil, fmt.Errorf("signing the correction of serial %s: %w", n.Serial, err)
		}
		signed[i] = db.SignedCorrection{Serial: n.Serial, Note: note}
	}
	return signed, nil
}

// corrects says why a key cannot sign corrections, or nil.
func (k *KeySet) corrects(key *Key) error {
	for _, named := range k.Correct {
		if named.Verifier != key.Verifier() {
			continue
		}
		if named.Retired != nil {
			return fmt.Errorf("key set %d says that key %s has retired: use the one that has followed", k.Number, key.Verifier())
		}
		return nil
	}
	return fmt.Errorf("key set %d does not name key %s for corrections: have the feed root sign one that does (ocspctl feed keys sign --correct)", k.Number, key.Verifier())
}

// CanCorrect says whether a set names a key for corrections that is in use.
func (k *KeySet) CanCorrect() bool {
	for _, named := range k.Correct {
		if named.Retired == nil {
			return true
		}
	}
	return false
}

// Lost returns the corrections that verify under this set and not under next, where no note
// says the same. They are signed again before next is published.
func (k *KeySet) Lost(notes [][]byte, next *KeySet) []CorrectionNote {
	kept := map[Hash]bool{}
	for _, n := range next.CheckCorrections(notes) {
		if n != nil {
			kept[n.what()] = true
		}
	}
	var lost []CorrectionNote
	for _, n := range k.CheckCorrections(notes) {
		if n != nil && !kept[n.what()] {
			kept[n.what()] = true
			lost = append(lost, *n)
		}
	}
	return lost
}

// Unbelieved counts the corrections that no site accepts: neither they nor an equal one verify
// under the set.
func (k *KeySet) Unbelieved(notes [][]byte) int {
	believed := map[Hash]bool{}
	opened := k.CheckCorrections(notes)
	for _, n := range opened {
		if n != nil {
			believed[n.what()] = true
		}
	}
	count := 0
	for i, n := range opened {
		if n != nil {
			continue
		}
		text, _, _ := strings.Cut(string(notes[i]), "\n\n")
		if said, err := ParseCorrectionNote(text + "\n"); err != nil || !believed[said.what()] {
			count++
		}
	}
	return count
}

// what returns a hash of a correction's content without its time.
func (n *CorrectionNote) what() Hash {
	at := *n
	at.CorrectedAt = at.Was.RevokedAt
	return at.Hash()
}

// Without returns the set without a key for corrections, as it would be after its ban.
func (k *KeySet) Without(verifier string) *KeySet {
	next := *k
	next.Correct = slices.DeleteFunc(slices.Clone(k.Correct), func(key FeedKey) bool { return key.Verifier == verifier })
	return &next
}

// SealedBy returns the content of a retired feed key's line if this is the note of its last
// segment; nil: another key sealed it.
func SealedBy(verifier string, signed []byte) *Retired {
	text, _, err := openBy([]FeedKey{{Verifier: verifier}}, signed, MaxNote)
	if err != nil {
		return nil
	}
	c, err := ParseCheckpoint(text)
	if err != nil {
		return nil
	}
	return &Retired{Epoch: c.Epoch, Number: c.Number, Hash: c.Segment}
}

// MadeBy returns the content of a retired `correct` key's line, from all corrections.
func (k *KeySet) MadeBy(verifier string, notes [][]byte) Retired {
	var made []*CorrectionNote
	for _, signed := range notes {
		if n, key, err := k.openCorrection(signed); err == nil && key.Verifier == verifier {
			made = append(made, n)
		}
	}
	return SumCorrections(made)
}
