package ingest

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// authority is a CA for tests.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(tb testing.TB, name string) authority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(name + " key"),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return authority{key, cert}
}

// leaf is the DER of a certificate that ends a day after now.
func (a authority) leaf(tb testing.TB, serial *big.Int) []byte {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Somebody Secret"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// crl is the DER of a CRL made an hour before now.
func (a authority) crl(tb testing.TB, number int64, entries []x509.RevocationListEntry, extra ...pkix.Extension) []byte {
	tb.Helper()
	template := &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(24 * time.Hour),
		RevokedCertificateEntries: entries, ExtraExtensions: extra,
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.cert, a.key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// options are those for a file of this CA.
func (a authority) options(form string) Options {
	return Options{Form: form, Now: now, Issuer: db.Issuer{Name: "one", Certificate: a.cert.Raw, Policy: db.Policy{Profile: db.ProfileRevocable}}}
}

func asPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// keep writes a file of these octets.
func keep(tb testing.TB, name string, text []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// say reads a file and tells line by line what was understood, or why not.
func say(tb testing.TB, store *masterdb.DB, path string, o Options) []string {
	tb.Helper()
	return sayAll(tb, store, []string{path}, o)
}

// sayAll reads several files as one source.
func sayAll(tb testing.TB, store *masterdb.DB, paths []string, o Options) []string {
	tb.Helper()
	f, err := Open(tb.Context(), store, paths, o)
	if faults := (*Faults)(nil); errors.As(err, &faults) {
		lines := []string{}
		for _, n := range faults.First {
			lines = append(lines, n.Place.String()+": "+n.Text)
		}
		return lines
	}
	if err != nil {
		return []string{err.Error()}
	}
	defer f.Close()
	lines := []string{}
	for _, r := range staged(tb, f) {
		line := placeOf(r).String() + ": " + r.Serial.String()
		if s := r.Status; !s.NotAfter.IsZero() {
			line += " until " + s.NotAfter.Format(time.RFC3339)
		}
		if s := r.Status; s.Revoked {
			line += " revoked " + s.RevokedAt.Format(time.RFC3339) + " " + s.Reason.String()
		}
		lines = append(lines, line)
	}
	for _, warning := range f.Warnings {
		lines = append(lines, "warning: "+warning)
	}
	for _, n := range f.Notes {
		lines = append(lines, fmt.Sprintf("%s %s: %s", n.Kind, n.Place, n.Text))
	}
	return lines
}

// staged are the rows of a file, none of which the master has yet.
func staged(tb testing.TB, f *File) []masterdb.StagedRow {
	tb.Helper()
	_, found, err := f.rows.Plan(tb.Context(), masterdb.Part{Last: f.last}, 1000)
	if err != nil {
		tb.Fatal(err)
	}
	rows := make([]masterdb.StagedRow, len(found))
	for i, one := range found {
		rows[i] = one.StagedRow
	}
	slices.SortFunc(rows, func(a, b masterdb.StagedRow) int { return cmp.Compare(a.Number, b.Number) })
	return rows
}
