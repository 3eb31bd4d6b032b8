package feed

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// KeySet is signed by the feed root and says which keys may sign: the keys, their times, the
// banned ones, and the epoch. A higher number replaces a lower one.
type KeySet struct {
	Origin string
	Number int64 // from 1
	Epoch  int64 // the only epoch that the keys may sign for
	Keys   []FeedKey
	// Answers are the keys that sign answers on one serial, and nothing else: these answers
	// enter no copy. None: no site asks.
	Answers []FeedKey
	// Correct are the keys that sign corrections, and nothing else (CorrectionNote).
	Correct []FeedKey
	Banned  []string // verifier keys of stolen keys: nothing signed by them is valid
}

// FeedKey is one key of a set.
type FeedKey struct {
	From, Until time.Time // it may sign an as_of (of a correction: corrected_at) in this time
	Verifier    string    // C2SP verifier key: NAME+HASH+BASE64
	Retired     *Retired  // all that it has signed; nil: it is in use
}

// Retired is the root's statement of all that a key signed before it retired.
type Retired struct {
	Epoch  int64 // of the last segment that the key sealed; 0 of a `correct` key
	Number int64 // that segment's; of a `correct` key how many corrections it made
	Hash   Hash  // of that segment's body; of a `correct` key SumCorrections
}

// maxKeys bounds the keys, and the banned ones, of a set.
const maxKeys = 16

// Errors that a receiver handles.
var (
	// ErrForged says that neither a key of the set, nor the root for a key set, signed this.
	ErrForged = errors.New("it is not signed by a key that may sign it")
	// ErrUnknownKey says that no key of the set signed this: the key may be banned, removed
	// from the set, or foreign. It is an ErrForged, too.
	ErrUnknownKey = errors.New("no key of the key set signed it")
	// ErrNewerKeys says that a newer key set is needed to verify this.
	ErrNewerKeys = errors.New("it was signed under a newer key set")
	// ErrEpoch says that this is of another epoch than the key set.
	ErrEpoch = errors.New("it is of another epoch than the key set")
)

// Text returns the text that the root signs.
func (k *KeySet) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s\n%d\nepoch %d\n", k.Origin, keysSuffix, k.Number, k.Epoch)
	for _, key := range k.Keys {
		fmt.Fprintf(&b, "key %s %s %s", Stamp(key.From), Stamp(key.Until), key.Verifier)
		if r := key.Retired; r != nil {
			fmt.Fprintf(&b, " last %d %d %s", r.Epoch, r.Number, Base64(r.Hash))
		}
		b.WriteString("\n")
	}
	for _, key := range k.Answers {
		fmt.Fprintf(&b, "answer %s %s %s\n", Stamp(key.From), Stamp(key.Until), key.Verifier)
	}
	for _, key := range k.Correct {
		fmt.Fprintf(&b, "correct %s %s %s", Stamp(key.From), Stamp(key.Until), key.Verifier)
		if r := key.Retired; r != nil {
			fmt.Fprintf(&b, " made %d %s", r.Number, Base64(r.Hash))
		}
		b.WriteString("\n")
	}
	for _, key := range k.Banned {
		fmt.Fprintf(&b, "ban %s\n", key)
	}
	return b.String()
}

// Sign returns the signed note of a set; the signer is the feed root.
func (k *KeySet) Sign(root note.Signer) ([]byte, error) {
	if _, err := parseKeySet(k.Text()); err != nil {
		return nil, fmt.Errorf("signing key set %d: %w", k.Number, err)
	}
	return sign(k.Text(), root)
}

// OpenKeySet reads a set that the pinned root signed for this feed.
func OpenKeySet(signed []byte, origin string, root note.Verifier) (*KeySet, error) {
	if len(signed) > MaxNote {
		return nil, fmt.Errorf("reading a key set: %w: %d octets", errNote, len(signed))
	}
	n, err := openNote(signed, root)
	if err != nil {
		return nil, fmt.Errorf("reading a key set: %w: %w", ErrForged, err)
	}
	k, err := parseKeySet(n.Text)
	if err == nil && k.Origin != origin {
		err = fmt.Errorf("%w: its origin is %q, this feed is %q", ErrForged, k.Origin, origin)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a key set: %w", err)
	}
	return k, nil
}

// ParseKeySet reads a set's text, without a check of its signature.
func ParseKeySet(text string) (*KeySet, error) {
	k, err := parseKeySet(text)
	if err != nil {
		return nil, fmt.Errorf("reading a key set: %w", err)
	}
	return k, nil
}

func parseKeySet(text string) (*KeySet, error) {
	l := &lines{rest: text}
	k := &KeySet{}
	k.Origin = l.suffixed(keysSuffix)
	k.Number = l.number(l.line())
	k.Epoch = l.number(l.value("epoch"))
	for l.next("key") && len(k.Keys) < maxKeys {
		k.Keys = append(k.Keys, l.feedKey("key"))
	}
	for l.next("answer") && len(k.Answers) < maxKeys {
		k.Answers = append(k.Answers, l.feedKey("answer"))
	}
	for l.next("correct") && len(k.Correct) < maxKeys {
		k.Correct = append(k.Correct, l.feedKey("correct"))
	}
	for l.next("ban") && len(k.Banned) < maxKeys {
		k.Banned = append(k.Banned, l.value("ban"))
	}
	if l.err != nil {
		return nil, l.err
	}
	if err := CheckOrigin(k.Origin); err != nil {
		return nil, err
	}
	if k.Number < 1 || k.Epoch < 1 || len(k.Keys)+len(k.Correct) == 0 || l.rest != "" || k.Text() != text {
		return nil, fmt.Errorf("%w: a key set has a number and an epoch from 1 on, a key for the feed or for corrections, and at most %d of each kind and %d banned ones", errNote, maxKeys, maxKeys)
	}
	seen := map[uint32]bool{}
	for _, key := range slices.Concat(k.Keys, k.Answers, k.Correct) {
		v, err := note.NewVerifier(key.Verifier)
		if err != nil || v.Name() != k.Origin || seen[v.KeyHash()] || !key.From.Before(key.Until) || slices.Contains(k.Banned, key.Verifier) {
			return nil, fmt.Errorf("%w: key %q: each bears the origin's name, once, with a begin before its end, and is not banned", errNote, key.Verifier)
		}
		seen[v.KeyHash()] = true
	}
	return k, nil
}

// feedKey reads the line of one key.
func (l *lines) feedKey(kind string) FeedKey {
	value := l.value(kind)
	f := strings.Split(value, " ")
	if len(f) < 3 {
		l.fail(kind, value)
		return FeedKey{}
	}
	key := FeedKey{From: l.time(f[0]), Until: l.time(f[1]), Verifier: f[2]}
	switch f = f[3:]; {
	case len(f) == 0:
	case kind == "key" && len(f) == 4 && f[0] == "last":
		key.Retired = &Retired{Epoch: l.number(f[1]), Number: l.number(f[2]), Hash: l.hash(f[3])}
	case kind == "correct" && len(f) == 3 && f[0] == "made":
		key.Retired = &Retired{Number: l.number(f[1]), Hash: l.hash(f[2])}
	default:
		l.fail(kind, value)
	}
	return key
}

// open returns the text of a note that a key of the set signed, and that key.
func (k *KeySet) open(signed []byte, limit int) (string, FeedKey, error) {
	return openBy(k.Keys, signed, limit)
}

// openNote opens a note whose signatures are in their one form: base64 has two spare bits, with
// which another note with the same text could be made.
func openNote(signed []byte, verifiers ...note.Verifier) (*note.Note, error) {
	n, err := note.Open(signed, note.VerifierList(verifiers...))
	if err != nil {
		return nil, err
	}
	for _, s := range n.Sigs {
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return nil, fmt.Errorf("the signature %s is written in another way than ours: %w", s.Base64, err)
		}
	}
	return n, nil
}

// openBy returns the text of a note that one of the keys signed, and that key.
func openBy(keys []FeedKey, signed []byte, limit int) (string, FeedKey, error) {
	if len(signed) > limit {
		return "", FeedKey{}, fmt.Errorf("%w: %d octets", errNote, len(signed))
	}
	verifiers := make([]note.Verifier, 0, len(keys))
	for _, key := range keys {
		v, err := note.NewVerifier(key.Verifier)
		if err != nil {
			return "", FeedKey{}, fmt.Errorf("key %q: %w", key.Verifier, err)
		}
		verifiers = append(verifiers, v)
	}
	n, err := openNote(signed, verifiers...)
	if unknown := (*note.UnverifiedNoteError)(nil); errors.As(err, &unknown) {
		return "", FeedKey{}, fmt.Errorf("%w: %w", ErrForged, ErrUnknownKey)
	}
	if err != nil {
		return "", FeedKey{}, fmt.Errorf("%w: %w", ErrForged, err)
	}
	for i, v := range verifiers {
		if v.KeyHash() == n.Sigs[0].Hash {
			return n.Text, keys[i], nil
		}
	}
	return "", FeedKey{}, ErrForged
}

// admit checks that key may sign a note with this content.
func (k *KeySet) admit(origin string, keySet, epoch int64, asOf time.Time, key FeedKey) error {
	switch {
	case origin != k.Origin:
		return fmt.Errorf("%w: its origin is %q, this feed is %q", ErrForged, origin, k.Origin)
	case keySet > k.Number:
		return fmt.Errorf("%w: number %d, this one is %d", ErrNewerKeys, keySet, k.Number)
	case epoch != k.Epoch:
		return fmt.Errorf("%w: %d, the key set says %d", ErrEpoch, epoch, k.Epoch)
	case asOf.Before(key.From) || !asOf.Before(key.Until):
		return fmt.Errorf("%w: the key is for %s to %s, this is of %s", ErrForged, Stamp(key.From), Stamp(key.Until), Stamp(asOf))
	}
	return nil
}

// OpenCheckpoint reads a checkpoint that a key of the set signed. A note under a newer key set
// gives ErrNewerKeys if an old key signed it, else ErrForged: with either error the caller
// fetches the newest set and tries once more.
func (k *KeySet) OpenCheckpoint(signed []byte) (*Checkpoint, error) {
	text, key, err := k.open(signed, MaxNote)
	if err != nil {
		return nil, fmt.Errorf("reading a checkpoint: %w", err)
	}
	c, err := ParseCheckpoint(text)
	if err != nil {
		return nil, err
	}
	if err := k.admitCheckpoint(c, key); err != nil {
		return nil, fmt.Errorf("reading a checkpoint: %w", err)
	}
	return c, nil
}

// admitCheckpoint checks that key may sign a checkpoint or manifest. A retired key signed
// nothing after its last segment.
func (k *KeySet) admitCheckpoint(c *Checkpoint, key FeedKey) error {
	if err := k.admit(c.Origin, c.KeySet, c.Epoch, c.AsOf, key); err != nil {
		return err
	}
	if r := key.Retired; r != nil && (c.Epoch != r.Epoch || c.Number > r.Number || c.Number == r.Number && c.Segment != r.Hash) {
		return fmt.Errorf("%w: the key has retired, its last segment is %d of epoch %d, this is of %d", ErrForged, r.Number, r.Epoch, c.Number)
	}
	return nil
}

// Bans says whether a key banned by this set has signed a note.
func (k *KeySet) Bans(signed []byte) bool {
	for _, key := range k.Banned {
		v, err := note.NewVerifier(key)
		if err != nil {
			continue // no key, no signature
		}
		if _, err := note.Open(signed, note.VerifierList(v)); err == nil {
			return true
		}
	}
	return false
}
