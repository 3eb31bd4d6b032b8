package db_test

import (
	"bytes"
	"testing"

	"ocspfleet/db"
	"ocspfleet/db/dbtest"
)

// The CRL is a part of the issuer's row: SQL and Go agree on its canonical bytes,
// and without one they are what they were before there were any.
func TestTheCRLIsCountedWithItsIssuer(t *testing.T) {
	dsn, store := newMaster(t)
	conn := dbtest.Connect(t, dsn)
	before := issuerBytes(t, store, conn.QueryRow(t.Context(), "select issuer_canonical(i) from issuer i where id = 1").Scan)
	number, err := store.NextCRL(t.Context(), 1)
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

// issuerBytes are the canonical bytes of issuer 1, by Go and by SQL.
func issuerBytes(t *testing.T, store *db.Store, scan func(...any) error) []byte {
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
