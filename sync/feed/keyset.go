package feed

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// KeySet is the feed root's word on who signs: the keys, from when until when,
// the banned ones, and the epoch. A higher number replaces a lower one.
type KeySet struct {
	Origin string
	Number int64 // from 1
	Epoch  int64 // the one history that the keys may speak of
	Keys   []FeedKey
	// Answers are the keys that sign answers to questions for one serial, and nothing
	// else: what they sign enters no copy. None: nobody is asked.
	Answers []FeedKey
	Banned  []string // verifier keys of stolen keys: nothing they signed is believed
}

// FeedKey is one key of a set.
type FeedKey struct {
	From, Until time.Time // of the as_of that it may sign, whole seconds
	Verifier    string    // C2SP verifier key: NAME+HASH+BASE64
}

// maxKeys bounds the keys, and the banned ones, of a set.
const maxKeys = 16

// Errors that a receiver acts upon.
var (
	// ErrForged says that no key of the set, or not the root, signed this.
	ErrForged = errors.New("it is not signed by a key that may sign it")
	// ErrUnknownKey says that no key of the set signed this: it may be of a banned
	// key, of one that is not named any more, or of anybody. It is an ErrForged, too.
	ErrUnknownKey = errors.New("no key of the key set signed it")
	// ErrNewerKeys says that a newer key set is needed to judge this.
	ErrNewerKeys = errors.New("it was signed under a newer key set")
	// ErrEpoch says that this speaks of another epoch than the key set.
	ErrEpoch = errors.New("it is of another epoch than the key set")
)

// Text is what the root signs.
func (k *KeySet) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s\n%d\nepoch %d\n", k.Origin, keysSuffix, k.Number, k.Epoch)
	for _, key := range k.Keys {
		fmt.Fprintf(&b, "key %s %s %s\n", stamp(key.From), stamp(key.Until), key.Verifier)
	}
	for _, key := range k.Answers {
		fmt.Fprintf(&b, "answer %s %s %s\n", stamp(key.From), stamp(key.Until), key.Verifier)
	}
	for _, key := range k.Banned {
		fmt.Fprintf(&b, "ban %s\n", key)
	}
	return b.String()
}

// Sign makes the note of a set; the signer is the feed root.
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
	n, err := note.Open(signed, note.VerifierList(root))
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

// ParseKeySet reads a set's text, without judging who signed it.
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
		f := l.fields("key", 3)
		k.Keys = append(k.Keys, FeedKey{l.time(f[0]), l.time(f[1]), f[2]})
	}
	for l.next("answer") && len(k.Answers) < maxKeys {
		f := l.fields("answer", 3)
		k.Answers = append(k.Answers, FeedKey{l.time(f[0]), l.time(f[1]), f[2]})
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
	if k.Number < 1 || k.Epoch < 1 || len(k.Keys) == 0 || l.rest != "" || k.Text() != text {
		return nil, fmt.Errorf("%w: a key set has a number and an epoch from 1 on, 1 to %d keys, at most %d for answers and %d banned ones", errNote, maxKeys, maxKeys, maxKeys)
	}
	seen := map[uint32]bool{}
	for _, key := range slices.Concat(k.Keys, k.Answers) {
		v, err := note.NewVerifier(key.Verifier)
		if err != nil || v.Name() != k.Origin || seen[v.KeyHash()] || !key.From.Before(key.Until) || slices.Contains(k.Banned, key.Verifier) {
			return nil, fmt.Errorf("%w: key %q: each bears the origin's name, once, with a begin before its end, and is not banned", errNote, key.Verifier)
		}
		seen[v.KeyHash()] = true
	}
	return k, nil
}

// open returns the text of a note that a key of the set signed, and that key.
func (k *KeySet) open(signed []byte, limit int) (string, FeedKey, error) {
	return openBy(k.Keys, signed, limit)
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
	n, err := note.Open(signed, note.VerifierList(verifiers...))
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

// admit judges what key signed by what it says of itself.
func (k *KeySet) admit(origin string, keySet, epoch int64, asOf time.Time, key FeedKey) error {
	switch {
	case origin != k.Origin:
		return fmt.Errorf("%w: its origin is %q, this feed is %q", ErrForged, origin, k.Origin)
	case keySet > k.Number:
		return fmt.Errorf("%w: number %d, this one is %d", ErrNewerKeys, keySet, k.Number)
	case epoch != k.Epoch:
		return fmt.Errorf("%w: %d, the key set says %d", ErrEpoch, epoch, k.Epoch)
	case asOf.Before(key.From) || !asOf.Before(key.Until):
		return fmt.Errorf("%w: the key is for %s to %s, this is of %s", ErrForged, stamp(key.From), stamp(key.Until), stamp(asOf))
	}
	return nil
}

// OpenCheckpoint reads a checkpoint that a key of the set signed. A note under a
// newer key set gives ErrNewerKeys where an old key signed it, else ErrForged:
// who gets either asks for the newest set and tries once more.
func (k *KeySet) OpenCheckpoint(signed []byte) (*Checkpoint, error) {
	text, key, err := k.open(signed, MaxNote)
	if err != nil {
		return nil, fmt.Errorf("reading a checkpoint: %w", err)
	}
	c, err := ParseCheckpoint(text)
	if err != nil {
		return nil, err
	}
	if err := k.admit(c.Origin, c.KeySet, c.Epoch, c.AsOf, key); err != nil {
		return nil, fmt.Errorf("reading a checkpoint: %w", err)
	}
	return c, nil
}

// Bans says whether a key that this set bans has signed a note.
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
