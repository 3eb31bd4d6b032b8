package db_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"

	"github.com/jackc/pgx/v5"
)

var act = db.Act{User: "tester", Why: "test"}

// year is an end of validity that no test reaches.
var year = time.Now().Add(365 * 24 * time.Hour).UTC().Truncate(time.Second)

// newMaster gives a master with a head and one issuer, number 1.
func newMaster(t *testing.T) (dsn string, store *masterdb.DB) {
	t.Helper()
	dsn = dbtest.New(t, migrations.Master)
	store = open(t, dsn)
	if err := store.InitHead(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := store.AddIssuer(t.Context(), testIssuer(1), act); err != nil {
		t.Fatal(err)
	}
	return dsn, store
}

func open(t *testing.T, dsn string) *masterdb.DB {
	t.Helper()
	store, err := masterdb.Open(t.Context(), pg.Config{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

func testIssuer(n byte) db.Issuer {
	return db.Issuer{
		Key: [32]byte{n}, Name: fmt.Sprintf("issuer-%d", n), Certificate: []byte{0x30, 0x01, n},
		Policy: db.Policy{
			Validity: 72 * time.Hour, Backdate: 5 * time.Minute, MaxStaleness: 36 * time.Hour, FreshForUnknown: 15 * time.Minute,
			HTTPMaxAge: time.Hour, NeverIssued: db.NeverIssuedUnknown, Profile: db.ProfileRevocable,
		},
	}
}

// change is one row of the view change.
type change struct {
	Position int64
	XID      string
	Deleted  bool
	Table    string
	Content  []byte
}

// String names the table, after a minus where the row is gone.
func (c change) String() string {
	if c.Deleted {
		return "-" + c.Table
	}
	return c.Table
}

// changesAfter polls as a feed would: position > last, in order.
func changesAfter(ctx context.Context, conn *pgx.Conn, last int64) ([]change, error) {
	rows, err := conn.Query(ctx, `
		select * from (
		  select t.first - 1 + row_number() over (partition by b.xid order by b.id) as position, b.xid::text, b.deleted, b.table_name, b.content
		  from (select xid, min(first) as first from change_tx where xid in (select xid from change_tx where last > $1) group by xid) t
		  join change_body b using (xid)) c
		where position > $1 order by position`, last)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[change])
}

// replay plays changes of certificate into a map of canonical bytes by key, and
// fails where a change cannot have happened.
func replay(t *testing.T, changes []change) map[string]string {
	t.Helper()
	rows := map[string]string{}
	for _, c := range changes {
		if c.Table != "certificate" {
			continue
		}
		if c.Deleted {
			if _, there := rows[string(c.Content)]; !there {
				t.Errorf("position %d deletes %x, which is not there", c.Position, c.Content)
			}
			delete(rows, string(c.Content))
			continue
		}
		issuer, serial, _, err := db.ParseCertificate(c.Content)
		if err != nil {
			t.Fatalf("position %d: %v", c.Position, err)
		}
		rows[string(db.AppendCertificateKey(nil, issuer, serial))] = string(c.Content)
	}
	return rows
}

// assertConsistent checks what must hold of any master at rest: the head is
// what a recount says, positions are dense, and the changes replayed give the table.
func assertConsistent(t *testing.T, dsn string) []change {
	t.Helper()
	store := open(t, dsn)
	assertVerified(t, store)
	conn := dbtest.Connect(t, dsn)
	changes, err := changesAfter(t.Context(), conn, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range changes {
		if c.Position != int64(i+1) {
			t.Fatalf("change %d has position %d: positions are not dense", i+1, c.Position)
		}
	}
	head, err := store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if head.Position != int64(len(changes)) {
		t.Errorf("head position %d, but %d changes", head.Position, len(changes))
	}
	rows := replay(t, changes)
	var tally db.Tally
	for _, content := range rows {
		tally.Add([]byte(content))
	}
	if tally != head.Certificates {
		t.Errorf("replayed changes give %+v, the head says %+v", tally, head.Certificates)
	}
	var notes int
	if err := conn.QueryRow(t.Context(), "select count(*) from pending_change").Scan(&notes); err != nil || notes != 0 {
		t.Errorf("%d notes were left over (%v)", notes, err)
	}
	return changes
}

func assertVerified(t *testing.T, store *masterdb.DB) {
	t.Helper()
	counts, err := store.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range counts {
		if !c.Identical {
			t.Errorf("%s: counted %+v, the head says %+v", c.Table, c.Counted, c.Head)
		}
	}
}

// refused runs SQL that must fail, with want in the error's text.
func refused(t *testing.T, dsn, want, sql string) {
	t.Helper()
	conn, err := dbtest.Dial(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err = conn.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s\n got error %v\nwant one with %q", sql, err, want)
	}
}

func mustIssue(t *testing.T, store *masterdb.DB, serials ...string) {
	t.Helper()
	for _, serial := range serials {
		if _, err := store.Issue(t.Context(), 1, mustSerial(t, serial), year, act); err != nil {
			t.Fatal(err)
		}
	}
}

func mustSerial(t *testing.T, text string) db.Serial {
	t.Helper()
	serial, err := db.ParseSerial(text)
	if err != nil {
		t.Fatal(err)
	}
	return serial
}
