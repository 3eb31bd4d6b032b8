package masterdb

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Staging holds the rows of one import, or of one comparison, in a temporary table of its own
// session: they are deleted with it. They are written once; the plan is a query over them, and the
// import the same query in batches. Not safe for concurrent use.
type Staging struct {
	conn   *pgxpool.Conn
	issuer db.IssuerID
}

// StagedRow is one row and its place in its source; unset places are zero.
type StagedRow struct {
	Number int64  // place among the rows, from 1
	Name   string // of a file in a directory or tar
	Line   int64  // from 1
	Item   int64  // from 1: of an entry that lines do not tell apart
	Row
}

// Stage begins an import for an issuer. The caller closes it.
func (s *DB) Stage(ctx context.Context, issuer db.IssuerID) (*Staging, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("beginning an import: %w", pg.Plain(err))
	}
	if _, err := conn.Exec(ctx, "select import_begin()"); err != nil {
		conn.Release()
		return nil, fmt.Errorf("beginning an import: %w", pg.Plain(err))
	}
	return &Staging{conn, issuer}, nil
}

// Close ends the session, and with it the rows; a second call does nothing.
func (g *Staging) Close(ctx context.Context) {
	if g.conn == nil {
		return
	}
	_ = g.conn.Conn().Close(ctx)
	g.conn.Release()
	g.conn = nil
}

// Add appends rows.
func (g *Staging) Add(ctx context.Context, rows []StagedRow) error {
	_, err := g.conn.CopyFrom(ctx, pgx.Identifier{"pg_temp", "import_row"},
		[]string{"n", "name", "line", "item", "serial", "not_after", "revoked_at", "reason", "silent", "version"},
		pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
			r := rows[i]
			notAfter := new(r.Status.NotAfter.UTC().Truncate(time.Second))
			if r.NoEnd {
				notAfter = nil
			}
			revokedAt, reason := db.RevocationArg(r.Status)
			return []any{
				r.Number, valueOrNull(r.Name), valueOrNull(r.Line), valueOrNull(r.Item), []byte(r.Serial), notAfter, revokedAt, reason, r.Silent,
				valueOrNull(r.Version),
			}, nil
		}))
	if err != nil {
		return fmt.Errorf("staging %d rows: %w", len(rows), pg.Plain(err))
	}
	return nil
}

func valueOrNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// RowFault is a fault of a staged row, beyond its form.
type RowFault string

// The faults of rows: what the tables would refuse, and what contradicts another row.
const (
	FaultSerial    RowFault = "serial"     // no certificate can have it (Serial.Check)
	FaultNotAfter  RowFault = "not_after"  // it lies before 1971, or after 9999
	FaultRevokedAt RowFault = "revoked_at" // it lies before 1971
	FaultFuture    RowFault = "future"     // it is revoked later than now plus MaxClockSkew
	FaultHold      RowFault = "hold"       // it is on hold, and the issuer allows no hold
	FaultRepeated  RowFault = "repeated"   // Other has the same serial with other content
)

// FaultyRow is a row that cannot be imported.
type FaultyRow struct {
	StagedRow
	Fault RowFault
	Other StagedRow // only of FaultRepeated: the other row's place
}

// Faults checks the added rows, and calls each with every fault: first what the tables would
// refuse, then what contradicts another row. Lists, told apart by Name, may differ from each
// other. It is called once.
func (g *Staging) Faults(ctx context.Context, lists bool, each func(FaultyRow) error) error {
	rows, err := g.conn.Query(ctx, `select n, coalesce(name, ''), coalesce(line, 0), coalesce(item, 0), serial, not_after, revoked_at, fault,
		coalesce(o_name, ''), coalesce(o_line, 0), coalesce(o_item, 0) from import_faults($1, $2)`, g.issuer, lists)
	if err == nil {
		var f FaultyRow
		var notAfter, revokedAt *time.Time
		_, err = pgx.ForEachRow(rows, []any{
			&f.Number, &f.Name, &f.Line, &f.Item, (*[]byte)(&f.Serial), &notAfter, &revokedAt, &f.Fault, &f.Other.Name, &f.Other.Line, &f.Other.Item,
		}, func() error {
			f.Status, f.NoEnd = db.RowStatus(db.TimeOrZero(notAfter), revokedAt, nil), notAfter == nil
			return each(f)
		})
	}
	if err != nil {
		return fmt.Errorf("judging the rows: %w", pg.Plain(err))
	}
	return nil
}

// Merge removes bad rows, by number, then makes one row of those of one serial: of the rows with
// the greatest version the one that gives the revocation, the strongest, with the earliest time.
// It returns how many other rows were removed.
func (g *Staging) Merge(ctx context.Context, bad []int64) (gone int64, err error) {
	if err := g.conn.QueryRow(ctx, "select import_merge($1)", bad).Scan(&gone); err != nil {
		return 0, fmt.Errorf("merging repeated rows: %w", pg.Plain(err))
	}
	return gone, nil
}

// Part is a part of the staged rows: those with numbers after After, up to Last. End is set for
// those that have no end and are not at the master; zero: they are left out.
type Part struct {
	After, Last int64
	End         time.Time
}

// RowEffect is the effect of one row, with the master's present status.
type RowEffect struct {
	StagedRow
	Effect Effect
	Here   db.Status // zero when Effect is ImportNew or ImportNoEnd
}

// Counts are numbers of rows by effect and by their state in the source.
type Counts map[Effect]map[db.State]int64

// Plan returns what Apply would do now with a part: how many rows have each effect, the rows that
// are neither the same nor new, and the first few new ones. It only reads.
func (g *Staging) Plan(ctx context.Context, part Part, news int) (Counts, []RowEffect, error) {
	rows, err := g.conn.Query(ctx, `select effect, state, coalesce(n, 0), rows, coalesce(name, ''), coalesce(line, 0), coalesce(item, 0), serial,
			not_after, revoked_at, reason, here_not_after, here_revoked_at, here_reason from import_plan($1, $2, $3, $4, $5)`,
		g.issuer, part.After, part.Last, db.TimeArg(part.End), news)
	counts, effects := Counts{}, []RowEffect(nil)
	if err == nil {
		var effect Effect
		var state db.State
		var n, many, line, item int64
		var name string
		var serial []byte
		var notAfter, revokedAt, hereNotAfter, hereRevokedAt *time.Time
		var reason, hereReason *int16
		_, err = pgx.ForEachRow(rows, []any{
			&effect, &state, &n, &many, &name, &line, &item, &serial, &notAfter, &revokedAt, &reason, &hereNotAfter, &hereRevokedAt, &hereReason,
		}, func() error {
			if n == 0 {
				if counts[effect] == nil {
					counts[effect] = map[db.State]int64{}
				}
				counts[effect][state] = many
				return nil
			}
			f := RowEffect{StagedRow: StagedRow{Number: n, Name: name, Line: line, Item: item}, Effect: effect}
			f.Serial, f.Status, f.NoEnd = db.Serial(serial), db.RowStatus(db.TimeOrZero(notAfter), revokedAt, reason), notAfter == nil
			if hereNotAfter != nil {
				f.Here = db.RowStatus(*hereNotAfter, hereRevokedAt, hereReason)
			}
			effects = append(effects, f)
			return nil
		})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("comparing rows %d to %d: %w", part.After+1, part.Last, pg.Plain(err))
	}
	return counts, effects, nil
}

// Apply imports a part, of 10,000 rows at most, at the master, in one transaction with its audit
// entry: new ones are inserted, good ones and holds become revoked if the source says so, all else
// stays.
func (g *Staging) Apply(ctx context.Context, part Part, source ImportSource, act db.Act) (inserted, revoked, unchanged int64, err error) {
	err = g.conn.QueryRow(ctx, "select inserted, revoked, unchanged from import_apply($1, $2, $3, $4, $5, $6, $7)",
		g.issuer, part.After, part.Last, db.TimeArg(part.End), source, act.Why, act.User).Scan(&inserted, &revoked, &unchanged)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("importing batch %d of %s: %w", source.Batch, source.File, pg.Plain(err))
	}
	return inserted, revoked, unchanged, nil
}

// Missing counts the rows that the master has and the staged rows lack.
type Missing struct {
	Rows    int64 // of the master that the source should have
	Expired int64 // sources omit expired certificates
	Newer   int64 // revoked after the CRL was made
	Own     int64 // the sites' own certificates, which the CA's database may not know
}

// missingRows is how many rows one query of Missing reads. Each query is a transaction of its own:
// the master must have no long snapshots.
const missingRows = 10_000

// Missing finds certificates of the issuer that the staged rows lack, and calls each with those
// that they should have, by serial. A CRL, made at crlAt (zero: the source is not a CRL), has only
// the revoked ones. Changes in the meantime may be seen before or after.
func (g *Staging) Missing(ctx context.Context, crlAt time.Time, each func(db.Serial, db.Status) error) (Missing, error) {
	var m Missing
	last, looked := []byte{}, int64(missingRows)
	for looked == missingRows {
		rows, err := g.conn.Query(ctx, "select kind, rows, serial, not_after, revoked_at, reason from import_missing($1, $2, $3, $4)",
			g.issuer, last, missingRows, db.TimeArg(crlAt))
		if err == nil {
			var kind string
			var many int64
			var serial []byte
			var notAfter, revokedAt *time.Time
			var reason *int16
			_, err = pgx.ForEachRow(rows, []any{&kind, &many, &serial, &notAfter, &revokedAt, &reason}, func() error {
				switch kind {
				case "page":
					looked, last = many, serial
				case "expired":
					m.Expired += many
				case "newer":
					m.Newer += many
				case "own":
					m.Own += many
				default:
					m.Rows++
					return each(db.Serial(serial), db.RowStatus(db.TimeOrZero(notAfter), revokedAt, reason))
				}
				return nil
			})
		}
		if err != nil {
			return m, fmt.Errorf("looking for what the source has not: %w", pg.Plain(err))
		}
	}
	return m, nil
}
