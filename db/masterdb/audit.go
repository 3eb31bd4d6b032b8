package masterdb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"

	"github.com/jackc/pgx/v5"
)

// AuditEntry is one act in the master's audit: who, when, what and why.
type AuditEntry struct {
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

// AppendAudit appends the canonical bytes of an entry: n int64, at int64
// (microseconds since 2000-01-01), then db_role, os_user, act, what and why, each
// with its length as int32 before it, then position int64; all big endian. The
// same as the SQL function audit_canonical.
func AppendAudit(dst []byte, e AuditEntry) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.N))
	dst = binary.BigEndian.AppendUint64(dst, uint64(db.PgMicros(e.At)))
	for _, text := range []string{e.DBRole, e.OSUser, e.Act, e.What, e.Why} {
		dst = db.AppendLP(dst, []byte(text))
	}
	return binary.BigEndian.AppendUint64(dst, uint64(e.Position))
}

// AuditFilter chooses entries; its zero value chooses all.
type AuditFilter struct {
	Since time.Time // zero: from the first
	Until time.Time // zero: to the last
	Act   string    // an act, or its noun: "cert revoke", "cert"
	User  string    // a database login, or an operating system's user (also before " as ")
	Limit int       // the newest so many; 0: all
}

const auditColumns = "n, at, db_role, os_user, act, what::text, why, position, hash"

// AuditEntries hands the entries that the filter chooses to each, in the order
// of the chain, as they come from the database: memory does not grow with them.
func (s *DB) AuditEntries(ctx context.Context, f AuditFilter, each func(AuditEntry) error) error {
	var limit *int
	if f.Limit > 0 {
		limit = &f.Limit
	}
	rows, err := s.pool.Query(ctx, `select * from (
		select `+auditColumns+` from audit
		where n is not null and ($1::timestamptz is null or at >= $1) and ($2::timestamptz is null or at < $2)
		  and ($3 = '' or act = $3 or starts_with(act, $3 || ' '))
		  and ($4 = '' or db_role = $4 or os_user = $4 or starts_with(os_user, $4 || ' as '))
		order by n desc limit $5) a order by n`, timeOrNull(f.Since), timeOrNull(f.Until), f.Act, f.User, limit)
	if err != nil {
		return fmt.Errorf("reading the audit: %w", pg.Plain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var e AuditEntry
		if err := rows.Scan(&e.N, &e.At, &e.DBRole, &e.OSUser, &e.Act, &e.What, &e.Why, &e.Position, &e.Hash); err != nil {
			return fmt.Errorf("reading the audit: %w", err)
		}
		e.At = e.At.UTC()
		if err := each(e); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading the audit: %w", pg.Plain(err))
	}
	return nil
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Note writes an audit entry for an act that changed no replicated row. It does
// nothing, and says so, where there is no chain to write to: at a site, and at a
// master without a head.
func (s *Reader) Note(ctx context.Context, name string, what map[string]any, act db.Act) (noted bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		noted, err = tables.Note(ctx, tx, name, what, act)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("writing %q into the audit: %w", name, pg.Plain(err))
	}
	return noted, nil
}

// AuditMark is a place in the chain with its hash: who has noted one, on paper
// or in a site's copy of the head, finds every later change of what was before.
type AuditMark struct {
	N    int64
	Hash []byte
}

// AuditFault is something wrong with the chain.
type AuditFault struct {
	N    int64  // place in the chain that is concerned; 0: the row has none
	ID   int64  // of the row that is concerned; 0: it is not there
	Text string // what is wrong
}

// AuditReport is what VerifyAudit found.
type AuditReport struct {
	Entries int64     // rows read
	Head    AuditMark // what the head says of the chain's end
	Faults  []AuditFault
	More    int64 // faults beyond the maxAuditFaults that are listed
}

// maxAuditFaults bounds the list: a chain that lost its middle has one fault, a
// table that was written over has as many as rows.
const maxAuditFaults = 100

// maxAuditRow bounds one row in the stream: PostgreSQL's own limit of a value.
const maxAuditRow = 1 << 30

// auditRow is a whole entry as PostgreSQL sends records: it carries nulls, and
// the canonical bytes are put together here, not by a function that the one who
// tampered could have replaced.
const auditRow = "record_send(row(n, at, db_role, os_user, act, what::text, why, position, hash))"

// VerifyAudit reads the whole chain in one snapshot, computes every hash anew
// and compares the end with the head and each mark with its place. progress, if
// not nil, is called every 100,000 rows.
func (s *DB) VerifyAudit(ctx context.Context, marks []AuditMark, progress func(rows int64)) (AuditReport, error) {
	var report AuditReport
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		head, err := tables.ReadHead(ctx, tx)
		if err != nil {
			return err
		}
		c := newAuditChain(AuditMark{head.AuditCount, head.AuditHash}, marks)
		w := &pg.CopyReader{Limit: maxAuditRow, Row: func(fields [2][]byte) error {
			id, err := pg.CopyInt8(fields[0])
			if err != nil {
				return err
			}
			c.add(int64(id), fields[1])
			if progress != nil && c.report.Entries%100_000 == 0 {
				progress(c.report.Entries)
			}
			return nil
		}}
		const all = "copy (select id, " + auditRow + " from audit order by n nulls last, id) to stdout (format binary)"
		if _, err := tx.Conn().PgConn().CopyTo(ctx, w, all); err != nil {
			return err
		}
		if err := w.End(); err != nil {
			return err
		}
		report = c.end()
		return nil
	})
	if err != nil {
		return AuditReport{}, fmt.Errorf("verifying the audit: %w", pg.Plain(err))
	}
	return report, nil
}

// auditChain follows the entries in the order of n.
type auditChain struct {
	report AuditReport
	marks  map[int64][]byte
	last   AuditMark // as the rows say; Hash nil: unknown
	lastID int64
	buffer []byte
}

// newAuditChain begins before the first entry: head_init starts with SHA-256 of nothing.
func newAuditChain(head AuditMark, marks []AuditMark) *auditChain {
	start := sha256.Sum256(nil)
	c := &auditChain{report: AuditReport{Head: head}, marks: map[int64][]byte{}, last: AuditMark{0, start[:]}}
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

func (c *auditChain) fault(n, id int64, text string, args ...any) {
	if len(c.report.Faults) == maxAuditFaults {
		c.report.More++
		return
	}
	c.report.Faults = append(c.report.Faults, AuditFault{n, id, fmt.Sprintf(text, args...)})
}

// add judges one row.
func (c *auditChain) add(id int64, record []byte) {
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
				c.last, c.lastID = AuditMark{N: n}, id // the next one follows from we know not what
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
// lengths that AppendAudit writes.
func (c *auditChain) canonical(f [9][]byte) []byte {
	c.buffer = append(c.buffer[:0], c.last.Hash...)
	c.buffer = append(append(c.buffer, f[0]...), f[1]...)
	for _, text := range f[2:7] {
		c.buffer = db.AppendLP(c.buffer, text)
	}
	return append(c.buffer, f[7]...)
}

func (c *auditChain) missing(first, last int64) {
	if first == last {
		c.fault(first, 0, "is missing: it was deleted")
		return
	}
	c.fault(first, 0, "is missing, with all up to entry %d: they were deleted", last)
}

// end judges the end of the chain.
func (c *auditChain) end() AuditReport {
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
