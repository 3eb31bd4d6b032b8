package feed

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"ocspfleet/db"

	"golang.org/x/mod/sumdb/note"
)

// Checkpoint says what a copy has at Position, and that nothing newer existed
// at AsOf. Its text, signed by a key of the key set, is a C2SP checkpoint:
// origin, size (the position), root (the newest segment's hash), extension lines.
type Checkpoint struct {
	Origin   string // name of the feed and of its keys
	Position int64  // of the last change included
	Segment  Hash   // hash of the newest segment's body; zeros before the first
	Epoch    int64
	KeySet   int64 // number of the key set that was in force
	// SchemaMin and SchemaMax are the versions of the replicated tables that can store the
	// rows.
	SchemaMin, SchemaMax int64
	Number               int64 // of the newest segment; 0 before the first
	// Previous is the hash of the text of the sealing checkpoint before this one:
	// at the seal of segment N that of N-1; in a later checkpoint of N, that of N.
	Previous    Hash
	Tallies     []TableTally // count and digest of each table, in the order of db.FeedTables
	PurgeBefore time.Time    // rows that ended before it may be deleted; zero: none is
	AuditCount  int64
	AuditHash   Hash
	AsOf        time.Time // the master's clock, in microseconds
}

// TableTally is the count and digest of one table.
type TableTally struct {
	Table string
	db.Tally
}

// SchemaVersion is the version of the replicated tables that this program writes into the feed
// and can store.
const SchemaVersion = 1

var (
	errNote       = formError("the note is not of the form")
	errOrigin     = errors.New("an origin is a host name, perhaps with /name after it, as ca.example/status")
	originPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,99}(/[a-z0-9][a-z0-9-]{0,31})?$`)
)

// Suffixes of the first line: a note of one kind is never read as another.
const (
	keysSuffix     = "/keys"
	snapshotSuffix = "/snapshot"
)

// CheckOrigin checks the name of a feed.
func CheckOrigin(origin string) error {
	if !originPattern.MatchString(origin) || strings.HasSuffix(origin, keysSuffix) || strings.HasSuffix(origin, snapshotSuffix) || strings.HasSuffix(origin, answerSuffix) || strings.HasSuffix(origin, correctionSuffix) {
		return fmt.Errorf("origin %q: %w", origin, errOrigin)
	}
	return nil
}

// NewCheckpoint returns a checkpoint with the values of a head.
func NewCheckpoint(origin string, h db.Head, purgeBefore time.Time) Checkpoint {
	c := Checkpoint{
		Origin: origin, Position: h.Position, Epoch: h.Epoch, SchemaMin: SchemaVersion, SchemaMax: SchemaVersion,
		PurgeBefore: purgeBefore, AuditCount: h.AuditCount, AsOf: h.AsOf.UTC().Truncate(time.Microsecond),
	}
	copy(c.AuditHash[:], h.AuditHash)
	for _, t := range db.FeedTables {
		c.Tallies = append(c.Tallies, TableTally{t.Name, *t.Tally(&h)})
	}
	return c
}

// Head returns the head that a copy at this checkpoint must have. It fails if the checkpoint
// has other tables than this program knows.
func (c *Checkpoint) Head() (db.Head, error) {
	h := db.Head{Epoch: c.Epoch, Position: c.Position, AsOf: c.AsOf, AuditCount: c.AuditCount, AuditHash: c.AuditHash[:]}
	if len(c.Tallies) != len(db.FeedTables) || c.SchemaMin > SchemaVersion || c.SchemaMax < SchemaVersion {
		return db.Head{}, fmt.Errorf("the checkpoint is for schema %d to %d with %d tables, this program knows schema %d with %d: upgrade it",
			c.SchemaMin, c.SchemaMax, len(c.Tallies), SchemaVersion, len(db.FeedTables))
	}
	for i, t := range db.FeedTables {
		if c.Tallies[i].Table != t.Name {
			return db.Head{}, fmt.Errorf("the checkpoint counts table %q: upgrade this program", c.Tallies[i].Table)
		}
		*t.Tally(&h) = c.Tallies[i].Tally
	}
	return h, nil
}

// Text returns the text to sign.
func (c *Checkpoint) Text() string { return c.text("") }

// Hash returns the hash of the text, without the signatures.
func (c *Checkpoint) Hash() Hash { return HashOf([]byte(c.Text())) }

func (c *Checkpoint) text(suffix string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s\n%d\n%s\n", c.Origin, suffix, c.Position, Base64(c.Segment))
	fmt.Fprintf(&b, "epoch %d\nkeys %d\nschema %d %d\nsegment %d\nprevious %s\n", c.Epoch, c.KeySet, c.SchemaMin, c.SchemaMax, c.Number, Base64(c.Previous))
	for _, t := range c.Tallies {
		fmt.Fprintf(&b, "table %s %d %016x\n", t.Table, t.Count, uint64(t.Digest))
	}
	if !c.PurgeBefore.IsZero() {
		fmt.Fprintf(&b, "purge_before %s\n", Stamp(c.PurgeBefore))
	}
	fmt.Fprintf(&b, "audit %d %s\nas_of %s\n", c.AuditCount, Base64(c.AuditHash), Stamp(c.AsOf))
	return b.String()
}

// ParseCheckpoint reads a text, without a check of its signature.
func ParseCheckpoint(text string) (*Checkpoint, error) {
	c, rest, err := parseCheckpoint(text, "")
	if err == nil && rest != "" {
		err = fmt.Errorf("%w: %w", errNote, errTrailing)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a checkpoint: %w", err)
	}
	return c, nil
}

// parseCheckpoint reads a checkpoint's lines and returns the lines after them. Writing the
// result must give the same text, so there is only one form.
func parseCheckpoint(text, suffix string) (*Checkpoint, string, error) {
	l := &lines{rest: text}
	c := &Checkpoint{}
	c.Origin = l.suffixed(suffix)
	c.Position = l.number(l.line())
	c.Segment = l.hash(l.line())
	c.Epoch = l.number(l.value("epoch"))
	c.KeySet = l.number(l.value("keys"))
	schema := l.fields("schema", 2)
	c.SchemaMin, c.SchemaMax = l.number(schema[0]), l.number(schema[1])
	c.Number = l.number(l.value("segment"))
	c.Previous = l.hash(l.value("previous"))
	for l.next("table") && len(c.Tallies) < maxTables {
		f := l.fields("table", 3)
		c.Tallies = append(c.Tallies, TableTally{f[0], db.Tally{Count: l.number(f[1]), Digest: db.Digest(l.hex(f[2]))}})
	}
	if l.next("purge_before") {
		c.PurgeBefore = l.time(l.value("purge_before"))
	}
	audit := l.fields("audit", 2)
	c.AuditCount, c.AuditHash = l.number(audit[0]), l.hash(audit[1])
	c.AsOf = l.time(l.value("as_of"))
	if l.err != nil {
		return nil, "", l.err
	}
	if err := CheckOrigin(c.Origin); err != nil {
		return nil, "", err
	}
	if c.text(suffix)+l.rest != text {
		return nil, "", fmt.Errorf("%w: it is written in another way than ours", errNote)
	}
	return c, l.rest, nil
}

// maxTables bounds the tables of a checkpoint.
const maxTables = 32

// lines reads a note line by line; the first fault is kept.
type lines struct {
	rest string
	err  error
}

func (l *lines) fail(what, got string) {
	if l.err == nil {
		l.err = fmt.Errorf("%w: %s is %q", errNote, what, got[:min(len(got), 80)])
	}
}

func (l *lines) line() string {
	line, rest, found := strings.Cut(l.rest, "\n")
	if !found {
		l.fail("the last line", line)
	}
	l.rest = rest
	return line
}

func (l *lines) next(key string) bool { return strings.HasPrefix(l.rest, key+" ") }

func (l *lines) value(key string) string {
	line := l.line()
	value, found := strings.CutPrefix(line, key+" ")
	if !found {
		l.fail("the line of "+key, line)
	}
	return value
}

func (l *lines) fields(key string, n int) []string {
	value := l.value(key)
	fields := strings.Split(value, " ")
	if len(fields) != n {
		l.fail(key, value)
		return make([]string, n)
	}
	return fields
}

func (l *lines) suffixed(suffix string) string {
	line := l.line()
	origin, found := strings.CutSuffix(line, suffix)
	if !found {
		l.fail("the first line", line)
	}
	return origin
}

func (l *lines) number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n == math.MaxInt64 {
		l.fail("a number", text)
	}
	return n
}

func (l *lines) hex(text string) uint64 {
	n, err := strconv.ParseUint(text, 16, 64)
	if err != nil || len(text) != 16 {
		l.fail("a digest", text)
	}
	return n
}

func (l *lines) hash(text string) Hash {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != len(Hash{}) {
		l.fail("a hash", text)
		return Hash{}
	}
	return Hash(raw)
}

const StampForm = "2006-01-02T15:04:05.000000Z"

func Stamp(t time.Time) string { return t.UTC().Format(StampForm) }

func (l *lines) time(text string) time.Time {
	t, err := time.Parse(StampForm, text)
	if err != nil {
		l.fail("a time", text)
	}
	return t
}

func Base64(h Hash) string { return base64.StdEncoding.EncodeToString(h[:]) }

// sign returns the signed note of a text.
func sign(text string, signer note.Signer) ([]byte, error) {
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return signed, nil
}

// AsOf returns the time of a verified checkpoint; zero: it is not a checkpoint.
func AsOf(signed []byte) time.Time {
	c, err := ReadCheckpoint(signed)
	if err != nil {
		return time.Time{}
	}
	return c.AsOf
}

// ParseClock reads a line that has only a time.
func ParseClock(text string) (time.Time, error) {
	l := &lines{rest: text}
	clock := l.time(l.line())
	if l.err == nil && l.rest != "" {
		l.err = errTrailing
	}
	return clock, l.err
}

// ReadCheckpoint reads a note's text without a check of its signature.
func ReadCheckpoint(signed []byte) (*Checkpoint, error) {
	text, _, _ := strings.Cut(string(signed), "\n\n")
	return ParseCheckpoint(text + "\n")
}
