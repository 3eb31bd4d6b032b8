package auditchain

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"ocspfleet/db"
)

// Entry is one act in the master's audit: who, when, what and why.
type Entry struct {
	N        int64 // place in the chain, dense from 1
	At       time.Time
	DBRole   string // the login of the database: proven
	OSUser   string // the operating system's user, as the client said
	Act      string // "cert revoke"; "direct": rows changed by SQL, outside the functions
	What     string // JSON, octet for octet as it was hashed
	Why      string
	Position int64  // of the head after the transaction
	Hash     []byte // SHA-256(hash before || canonical bytes)
}

// Append appends the canonical bytes of an entry: n int64, at int64
// (microseconds since 2000-01-01), then db_role, os_user, act, what and why, each
// with its length as int32 before it, then position int64; all big endian. The
// same as the SQL function audit_canonical.
func Append(dst []byte, e Entry) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.N))
	dst = binary.BigEndian.AppendUint64(dst, uint64(db.PgMicros(e.At)))
	for _, text := range []string{e.DBRole, e.OSUser, e.Act, e.What, e.Why} {
		dst = db.AppendLP(dst, []byte(text))
	}
	return binary.BigEndian.AppendUint64(dst, uint64(e.Position))
}

// Mark is a place in the chain with its hash: who has noted one, on paper
// or in a site's copy of the head, finds every later change of what was before.
type Mark struct {
	N    int64
	Hash []byte
}

// Fault is something wrong with the chain.
type Fault struct {
	N    int64  // place in the chain that is concerned; 0: the row has none
	ID   int64  // of the row that is concerned; 0: it is not there
	Text string // what is wrong
}

// Report is what was found.
type Report struct {
	Entries int64 // rows read
	Head    Mark  // what the head says of the chain's end
	Faults  []Fault
	More    int64 // faults beyond the maxFaults that are listed
}

// maxFaults bounds the list: a chain that lost its middle has one fault, a
// table that was written over has as many as rows.
const maxFaults = 100

// Chain follows the entries in the order of n (Add), then tells what is wrong (End).
type Chain struct {
	report Report
	marks  map[int64][]byte
	last   Mark // as the rows say; Hash nil: unknown
	lastID int64
	buffer []byte
}

// New begins before the first entry: head_init starts with SHA-256 of nothing.
func New(head Mark, marks []Mark) *Chain {
	start := sha256.Sum256(nil)
	c := &Chain{report: Report{Head: head}, marks: map[int64][]byte{}, last: Mark{0, start[:]}}
	for _, m := range marks {
		if m.N == 0 {
			continue
		}
		if other, twice := c.marks[m.N]; twice && !bytes.Equal(other, m.Hash) {
			c.fault(m.N, 0, "two marks say different hashes of it: %x and %x", other, m.Hash)
		}
		c.marks[m.N] = m.Hash
	}
	return c
}

func (c *Chain) fault(n, id int64, text string, args ...any) {
	if len(c.report.Faults) == maxFaults {
		c.report.More++
		return
	}
	c.report.Faults = append(c.report.Faults, Fault{n, id, fmt.Sprintf(text, args...)})
}

// Add judges one row: its id, and n, at, db_role, os_user, act, what, why, position and
// hash as one record in PostgreSQL's binary form.
func (c *Chain) Add(id int64, record []byte) {
	c.report.Entries++
	f, err := splitRecord(record)
	if err != nil {
		c.fault(0, id, "cannot be read: %v", err)
		return
	}
	if f[0] == nil {
		c.fault(0, id, "has no place in the chain: it was written past the triggers")
		return
	}
	n := int64(binary.BigEndian.Uint64(f[0]))
	for i, name := range []string{"at", "db_role", "os_user", "act", "what", "why", "position", "hash"} {
		if f[i+1] == nil {
			c.fault(n, id, "has no %s: it was written past the triggers", name)
			if n == c.last.N+1 {
				c.last, c.lastID = Mark{N: n}, id // the next one follows from we know not what
			}
			return
		}
	}
	switch {
	case n <= c.last.N:
		c.fault(n, id, "stands in the place of row %d: it was written past the triggers", c.lastID)
		return
	case n > c.report.Head.N:
		c.fault(n, id, "lies beyond the head, which counts %d entries: it was written past the triggers", c.report.Head.N)
		return
	case n > c.last.N+1:
		c.missing(c.last.N+1, n-1)
	case c.last.Hash != nil:
		if sum := sha256.Sum256(c.canonical(f)); !bytes.Equal(sum[:], f[8]) {
			c.fault(n, id, "its hash is not that of its content after entry %d: it was changed, or entry %d was written anew", n-1, n-1)
		}
	}
	if mark, marked := c.marks[n]; marked {
		if !bytes.Equal(mark, f[8]) {
			c.fault(n, id, "has hash %x, the mark says %x: it or an entry before it was written anew", f[8], mark)
		}
		delete(c.marks, n)
	}
	c.last.N, c.lastID = n, id
	c.last.Hash = append(c.last.Hash[:0], f[8]...)
}

// canonical is the hash before and the canonical bytes: texts come with the
// lengths that Append writes.
func (c *Chain) canonical(f [9][]byte) []byte {
	c.buffer = append(c.buffer[:0], c.last.Hash...)
	c.buffer = append(append(c.buffer, f[0]...), f[1]...)
	for _, text := range f[2:7] {
		c.buffer = db.AppendLP(c.buffer, text)
	}
	return append(c.buffer, f[7]...)
}

func (c *Chain) missing(first, last int64) {
	if first == last {
		c.fault(first, 0, "is missing: it was deleted")
		return
	}
	c.fault(first, 0, "is missing, with all up to entry %d: they were deleted", last)
}

// End judges the end of the chain.
func (c *Chain) End() Report {
	head := c.report.Head
	switch {
	case c.last.N < head.N:
		c.missing(c.last.N+1, head.N)
	case c.last.Hash != nil && !bytes.Equal(c.last.Hash, head.Hash):
		c.fault(c.last.N, c.lastID, "ends the chain with hash %x, the head says %x: it or entries before it were written anew with new hashes", c.last.Hash, head.Hash)
	}
	for _, n := range slices.Sorted(maps.Keys(c.marks)) {
		c.fault(n, 0, "is missing, the mark says that it was there with hash %x", c.marks[n])
	}
	return c.report
}

// splitRecord reads a record of nine fields as PostgreSQL sends it: int32 count,
// then per field its type's oid, its length (-1: null) and its octets. A null
// is nil. Fixed-width fields must have their 8 octets.
func splitRecord(b []byte) ([9][]byte, error) {
	var f [9][]byte
	cut := errors.New("the record is cut short")
	if len(b) < 4 || binary.BigEndian.Uint32(b) != uint32(len(f)) {
		return f, errors.New("the record has another number of fields")
	}
	b = b[4:]
	for i := range f {
		if len(b) < 8 {
			return f, cut
		}
		n := int32(binary.BigEndian.Uint32(b[4:]))
		if b = b[8:]; n < 0 {
			continue
		}
		if int64(n) > int64(len(b)) {
			return f, cut
		}
		f[i], b = b[:n:n], b[n:]
	}
	for _, i := range []int{0, 1, 7} {
		if f[i] != nil && len(f[i]) != 8 {
			return f, errors.New("a number has another width")
		}
	}
	return f, nil
}
