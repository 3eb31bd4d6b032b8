package db_test

import (
	"bytes"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/dbtest"
)

// The CRL is a part of the issuer's row: SQL and Go agree on its canonical bytes,
// and without one they are what they were before there were any.
func TestTheCRLIsCountedWithItsIssuer(t *testing.T) {
	dsn, store := newMaster(t)
	conn := dbtest.Connect(t, dsn)
	before := issuerBytes(t, store, conn.QueryRow(t.Context(), "select issuer_canonical(i) from issuer i where id = 1").Scan)
	number, err := store.NextCRL(t.Context(), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	der := []byte{0x30, 0x03, 0x02, 0x01, 0x01}
	if err := store.PutCRL(t.Context(), 1, number, 0, der, 0, act); err != nil {
		t.Fatal(err)
	}
	after := issuerBytes(t, store, conn.QueryRow(t.Context(), "select issuer_canonical(i) from issuer i where id = 1").Scan)
	if want := append(bytes.Clone(before), append([]byte{0, 0, 0, 5}, der...)...); !bytes.Equal(after, want) {
		t.Errorf("canonical bytes %x, want %x", after, want)
	}
	counts, err := store.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range counts {
		if !c.Identical {
			t.Errorf("rows and head differ: %+v", c)
		}
	}
	if err := store.PutCRL(t.Context(), 1, number, 0, der, 0, act); err == nil {
		t.Error("one number was published twice")
	}
}

// A master that was restored from a backup has forgotten which numbers it took since:
// it takes higher ones all the same.
func TestCRLNumbersNeverGoBackAfterARestore(t *testing.T) {
	dsn, store := newMaster(t)
	take := func(s *masterdb.DB, count int) int64 {
		t.Helper()
		number, err := s.NextCRL(t.Context(), 1, count)
		if err != nil {
			t.Fatal(err)
		}
		return number
	}
	before := take(store, 1)
	if next := take(store, 60); next <= before {
		t.Errorf("number %d after %d", next, before)
	}
	store.Close()
	lives, backup := openCopy(t, dsn, "lives"), openCopy(t, dsn, "backup")
	// More than one each millisecond, so that they run ahead of the clock.
	var highest int64
	for range 3 {
		first := take(lives, 100)
		if first <= highest || first <= before+60 {
			t.Errorf("number %d after %d", first, max(highest, before+60))
		}
		highest = first + 99
	}
	// To restore a backup takes longer than the 300 ms of that; here it is waited for.
	for end := time.Now().Add(30 * time.Second); time.Now().UnixMilli() <= highest; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("number %d is far ahead of the clock", highest)
		}
	}
	if number := take(backup, 1); number <= highest || big.NewInt(number).BitLen() > 20*8-1 {
		t.Errorf("restored, it takes %d after %d", number, highest)
	}
	for _, wrong := range []int{0, -1, 1001} {
		if _, err := lives.NextCRL(t.Context(), 1, wrong); err == nil {
			t.Errorf("%d numbers were taken", wrong)
		}
	}
}

// openCopy copies a database that nobody is connected to, as a backup does.
func openCopy(t *testing.T, dsn, suffix string) *masterdb.DB {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	from := strings.TrimPrefix(u.Path, "/")
	u.Path += "_" + suffix
	admin := dbtest.Server(t).DSN("postgres")
	conn := dbtest.Connect(t, admin)
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) { // until the last session has gone
		_, err := conn.Exec(t.Context(), fmt.Sprintf("create database %q template %q", from+"_"+suffix, from))
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { dbtest.Exec(t, admin, fmt.Sprintf("drop database %q with (force)", from+"_"+suffix)) })
	return open(t, u.String())
}

// issuerBytes are the canonical bytes of issuer 1, by Go and by SQL.
func issuerBytes(t *testing.T, store *masterdb.DB, scan func(...any) error) []byte {
	t.Helper()
	var inSQL []byte
	if err := scan(&inSQL); err != nil {
		t.Fatal(err)
	}
	issuers, err := store.Issuers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if inGo := db.AppendIssuer(nil, issuers[0]); !bytes.Equal(inSQL, inGo) {
		t.Errorf("SQL has %x, Go %x", inSQL, inGo)
	}
	return inSQL
}
