package ingest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/ingest/syntax"

	"github.com/google/go-cmp/cmp"
)

func entries(n int) []x509.RevocationListEntry {
	all := make([]x509.RevocationListEntry, n)
	for i := range all {
		all[i] = x509.RevocationListEntry{SerialNumber: big.NewInt(int64(i + 10)), RevocationTime: now.Add(-time.Hour), ReasonCode: 4}
	}
	return all
}

func extension(id int, value any) pkix.Extension {
	der, err := asn1.Marshal(value)
	if err != nil {
		panic(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, id}, Critical: true, Value: der}
}

// idp is an IssuingDistributionPoint with one BOOLEAN or bit string set.
func idp(tag int, value ...byte) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: append([]byte{0x30, byte(2 + len(value)), 0x80 | byte(tag), byte(len(value))}, value...)}
}

func TestCRLIsCheckedAsAWhole(t *testing.T) {
	store := master(t)
	ca, other := newAuthority(t, "CA one"), newAuthority(t, "CA two")
	namesake := newAuthority(t, "CA one")
	good := ca.crl(t, 7, entries(1))
	future := ca.options("crl")
	future.Now = now.Add(-2 * time.Hour)
	newer := ca.options("crl")
	newer.LastCRLs = map[string]*big.Int{"": big.NewInt(8)}
	same := ca.options("crl")
	same.LastCRLs = map[string]*big.Int{"": big.NewInt(7)}
	bent := bytes.Clone(good)
	bent[bytes.Index(bent, []byte{2, 1, 10})+2]++ // the serial
	const understood = "row 1: 0a revoked 2026-11-22T11:00:00Z superseded"
	for _, c := range []struct {
		name string
		text []byte
		o    Options
		want string
	}{
		{"DER", good, ca.options("crl"), understood},
		{"PEM", asPEM("X509 CRL", good), ca.options("crl"), understood},
		{"PEM with text and CRLF", append([]byte("Certificate Revocation List\r\n"), bytes.ReplaceAll(asPEM("X509 CRL", good), []byte("\n"), []byte("\r\n"))...), ca.options("crl"), understood},
		{"PEM without its last line end", bytes.TrimSpace(asPEM("X509 CRL", good)), ca.options("crl"), understood},
		{"the number of the last", good, same, understood},
		{"certificates of users alone", ca.crl(t, 7, entries(1), idp(1, 0xff)), ca.options("crl"), understood},
		{"older", good, newer, "its number is 7, and number 8 was imported before: want the newest (--older-crl takes it)"},
		{"of the future", good, future, "it was made in the future (2026-11-22T11:00:00Z)"},
		{"another issuer's", other.crl(t, 7, entries(1)), ca.options("crl"), `it is the CRL of "CN=CA two", not of "CN=CA one"`},
		{"another key's", namesake.crl(t, 7, entries(1)), ca.options("crl"), `it does not bear the signature of "CN=CA one": x509: ECDSA verification failure`},
		{"bent", bent, ca.options("crl"), `it does not bear the signature of "CN=CA one": x509: ECDSA verification failure`},
		{"cut", good[:len(good)-1], ca.options("crl"), errNoCRL.Error()},
		{"cut PEM", asPEM("X509 CRL", good)[:200], ca.options("crl"), syntax.ErrCut.Error()},
		{"something behind", append(bytes.Clone(good), 0), ca.options("crl"), "1 octets stand after its end"},
		{"empty", nil, ca.options("crl"), "it is empty"},
		{"a certificate", asPEM("CERTIFICATE", ca.cert.Raw), ca.options("crl"), "it is neither DER nor PEM of type X509 CRL"},
		{"a gigantic line", bytes.Repeat([]byte{'x'}, 70000), ca.options("crl"), "line 1 is longer than 64 KiB"},
		{"NUL", []byte("-----BEGIN X509 CRL-----\nAAA\x00\n"), ca.options("crl"), "line 2 has a NUL octet"},
		{"delta", ca.crl(t, 7, entries(1), extension(27, 6)), ca.options("crl"), errDelta.Error()},
		{"indirect", ca.crl(t, 7, entries(1), idp(4, 0xff)), ca.options("crl"), errIndirect.Error()},
		{"some reasons", ca.crl(t, 7, entries(1), idp(3, 1, 0x40)), ca.options("crl"), errPartReasons.Error()},
		{"attributes", ca.crl(t, 7, entries(1), idp(5, 0xff)), ca.options("crl"), errAttributes.Error()},
		{"unknown and critical", ca.crl(t, 7, entries(1), extension(99, 1)), ca.options("crl"), "it has the critical extension 2.5.29.99, which this program does not know (RFC 5280 section 5.2)"},
		{"nothing revoked", ca.crl(t, 7, nil), ca.options("crl"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := say(t, store, keep(t, "file", c.text), c.o)
			line := strings.Join(got, "\n")
			if _, after, found := strings.Cut(line, " as crl: "); found {
				line = after
			}
			if line != c.want {
				t.Errorf("said %q, want %q", line, c.want)
			}
		})
	}
}

func TestBadCRLEntriesAreNamed(t *testing.T) {
	store := master(t)
	ca := newAuthority(t, "CA one")
	all := entries(8)
	all[1].ReasonCode = 8 // removeFromCRL
	all[2].ReasonCode = 7
	all[3].RevocationTime = now.AddDate(900, 0, 0)
	all[4].ExtraExtensions = []pkix.Extension{extension(29, []int{})}
	all[5].ExtraExtensions = []pkix.Extension{extension(98, 1)}
	all[6].SerialNumber = new(big.Int).Lsh(big.NewInt(1), 159)
	all[7].SerialNumber = big.NewInt(10) // once more, otherwise
	all[7].ReasonCode = 1
	got := say(t, store, keep(t, "bad.crl", ca.crl(t, 7, all)), ca.options("crl"))
	want := []string{
		`row 2: reason "8" (removeFromCRL): is no revocation (RFC 5280 section 5.3.1)`, `row 3: reason "7": is none of RFC 5280's numbers`,
		"row 4: revocation time 2926-11-22T12:00:00Z lies in the future", "row 5: names its issuer: the CRL is an indirect one (RFC 5280 section 5.3.3)",
		"row 6: has a critical extension (551d62) that this program does not know (RFC 5280 section 5.3)",
		"row 7: serial 008000000000000000000000000000000000000000: has 21 octets, more than 20 (RFC 5280 section 4.1.2.2)",
		"row 8: serial 0a stands in row 1 already, and says something else",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A CRL revokes what is there, makes nothing good, registers what the master
// does not know only with an end, and is remembered by its number.
func TestCRLRevokesAndRegistersNothingByItself(t *testing.T) {
	store := master(t)
	ca := newAuthority(t, "CA one")
	issuer := oneIssuer(t, store)
	o := ca.options("crl")
	certificate := o.Issuer.Certificate
	o.Issuer = issuer
	o.Issuer.Certificate = certificate
	end := now.Add(48 * time.Hour)
	for _, serial := range []byte{10, 50} {
		if _, err := store.Issue(t.Context(), issuer.ID, db.Serial{serial}, end, act); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := store.Revoke(t.Context(), issuer.ID, db.Serial{50}, db.ReasonKeyCompromise, now.Add(-time.Hour), act); err != nil {
		t.Fatal(err)
	}
	path := keep(t, "one.crl", ca.crl(t, 7, entries(3)))
	p := planOf(t, path, store, o)
	if p.Counts[masterdb.ImportRevoke] != 1 || p.Counts[masterdb.ImportNoEnd] != 2 || p.Conflicts() != 2 || p.Writes() != 1 {
		t.Fatalf("plan %v", p.Counts)
	}
	if done, err := p.Apply(t.Context(), store, act, nil); err != nil || done != (Result{Revoked: 1, Unchanged: 2}) {
		t.Fatalf("apply: %+v, %v", done, err)
	}
	o.NotAfter = end
	if done, err := planOf(t, path, store, o).Apply(t.Context(), store, act, nil); err != nil || done != (Result{Inserted: 2, Unchanged: 1}) {
		t.Fatalf("with an end: %+v, %v", done, err)
	}
	for _, serial := range []byte{10, 11, 12, 50} {
		s, err := store.Certificate(t.Context(), issuer.ID, db.Serial{serial})
		if err != nil || !s.Permanent() || !s.NotAfter.Equal(end) {
			t.Errorf("serial %d: %+v, %v", serial, s, err)
		}
	}
	if number, err := store.CRLNumber(t.Context(), issuer.ID); err != nil || number == nil || number.Int64() != 7 {
		t.Errorf("number %v, %v", number, err)
	}
	// One that changes nothing is remembered, too, and once.
	next := keep(t, "one.crl", ca.crl(t, 9, entries(3)))
	for range 2 {
		if done, err := planOf(t, next, store, o).Apply(t.Context(), store, act, nil); err != nil || done != (Result{Unchanged: 3}) {
			t.Errorf("apply: %+v, %v", done, err)
		}
	}
	if number, err := store.CRLNumber(t.Context(), issuer.ID); err != nil || number == nil || number.Int64() != 9 {
		t.Errorf("number %v, %v", number, err)
	}
	if head, err := store.Head(t.Context()); err != nil || head.AuditCount != 1+1+2+1+1+1+1 {
		t.Errorf("%d audit entries, %v", head.AuditCount, err)
	}
}

// A directory, a tar, a compressed tar and one file of PEM say the same.
func TestCertificatesAreReadFromDirectoryTarAndPEM(t *testing.T) {
	store := master(t)
	ca, other := newAuthority(t, "CA one"), newAuthority(t, "CA two")
	files := map[string][]byte{
		"a.der":     ca.leaf(t, big.NewInt(10)),
		"b/two.pem": slices.Concat([]byte("Certificate:\n text\n"), asPEM("CERTIFICATE", ca.leaf(t, big.NewInt(11))), asPEM("CERTIFICATE", ca.cert.Raw)),
		"c.pem":     asPEM("CERTIFICATE", other.leaf(t, big.NewInt(12))),
		"d.key":     asPEM("PRIVATE KEY", []byte{1, 2, 3}),
	}
	dir := t.TempDir()
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	var all []byte
	for _, name := range []string{"a.der", "b/two.pem", "c.pem", "d.key"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, files[name], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(files[name])), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(files[name]); err != nil {
			t.Fatal(err)
		}
		if name == "a.der" {
			all = append(all, asPEM("CERTIFICATE", files[name])...)
		} else {
			all = append(all, files[name]...)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(packed.Bytes()); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a.der", filepath.Join(dir, "e.0")); err != nil {
		t.Fatal(err)
	}
	const end = "2026-11-23T12:00:00Z"
	// The issuer's own stands at a line that its length decides: it is blanked out.
	want := []string{
		"a.der row 1: 0a until " + end, "b/two.pem 3: 0b until " + end, "skipped b/two.pem 12: the issuer's own certificate",
		"skipped c.pem 1: another issuer's", "skipped d.key row 1: holds no certificate",
	}
	blank := func(lines []string) []string {
		var out []string
		for _, l := range lines {
			if strings.Contains(l, "own certificate") {
				l = "own"
			}
			out = append(out, l)
		}
		return out
	}
	want = blank(want)
	o := ca.options("certificates")
	for name, path := range map[string]string{"tar": keep(t, "x.tar", packed.Bytes()), "tar.gz": keep(t, "x.tgz", zipped.Bytes())} {
		if diff := cmp.Diff(want, blank(say(t, store, path, o))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if diff := cmp.Diff(append(want, "skipped e.0: no regular file"), blank(say(t, store, dir, o))); diff != "" {
		t.Errorf("directory (-want +got):\n%s", diff)
	}
	if got := say(t, store, keep(t, "all.pem", all), o); len(got) != 4 || !strings.HasPrefix(got[0], "1: 0a until") {
		t.Errorf("PEM: %q", got)
	}
}

func TestBadCertificatesAreNamed(t *testing.T) {
	store := master(t)
	ca, other := newAuthority(t, "CA one"), newAuthority(t, "CA two")
	o := ca.options("certificates")
	leaf := ca.leaf(t, big.NewInt(10))
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	if err := w.WriteHeader(&tar.Header{Name: "a.der", Size: int64(len(leaf)), Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(leaf); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"a bent certificate": {bend(leaf), "row 1: does not bear the issuer's signature: x509: ECDSA verification failure"},
		"nonsense":           {[]byte("hello\n"), "row 1: is neither PEM nor a certificate in DER"},
		"cut DER":            {leaf[:100], "row 1: is no certificate: x509: malformed certificate"},
		"cut PEM":            {asPEM("CERTIFICATE", leaf)[:100], "1: is cut short: a PEM block does not end"},
		"2^159":              {ca.leaf(t, new(big.Int).Lsh(big.NewInt(1), 158)), ""},
		"others alone":       {asPEM("CERTIFICATE", other.leaf(t, big.NewInt(12))), `none of its certificates is of issuer "one"`},
		"a cut tar":          {packed.Bytes()[:700], syntax.ErrCut.Error()},
	} {
		got := strings.Join(say(t, store, keep(t, "file", c.text), o), "\n")
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func bend(der []byte) []byte {
	der = bytes.Clone(der)
	der[len(der)-1] ^= 1
	return der
}

// Certificates tell that they were issued, not whether they are revoked.
func TestCertificatesDoNotContradictARevocation(t *testing.T) {
	store := master(t)
	ca := newAuthority(t, "CA one")
	o := ca.options("certificates")
	o.Issuer = oneIssuer(t, store)
	o.Issuer.Certificate = ca.cert.Raw
	path := keep(t, "a.pem", append(asPEM("CERTIFICATE", ca.leaf(t, big.NewInt(10))), asPEM("CERTIFICATE", ca.leaf(t, big.NewInt(11)))...))
	if done, err := planOf(t, path, store, o).Apply(t.Context(), store, act, nil); err != nil || done.Inserted != 2 {
		t.Fatalf("apply: %+v, %v", done, err)
	}
	if _, _, err := store.Revoke(t.Context(), o.Issuer.ID, db.Serial{10}, db.ReasonKeyCompromise, now.Add(-time.Hour), act); err != nil {
		t.Fatal(err)
	}
	p := planOf(t, path, store, o)
	if p.Counts[masterdb.ImportSame] != 2 || p.Conflicts() != 0 {
		t.Errorf("plan %v", p.Counts)
	}
}

// What stands between the signature and the rows must not panic, whatever it is.
func FuzzCRLEntry(f *testing.F) {
	f.Add([]byte{2, 1, 5, 0x17, 13, '2', '6', '0', '1', '0', '1', '1', '2', '0', '0', '0', '0', 'Z'})
	f.Fuzz(func(t *testing.T, der []byte) {
		row, err := parseRevoked(der)
		if err == nil && (len(row.Serial) == 0 || !row.Status.Revoked) {
			t.Errorf("row %+v", row)
		}
	})
}

// A form of text never panics, never ends in an error that is not about a row
// for what it can read, and hands on rows within the table's bounds.
func FuzzTextForm(f *testing.F) {
	for _, c := range texts {
		f.Add(c.form, []byte(c.text))
	}
	ca := newAuthority(f, "CA one")
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		if makers[name] == nil || name == "crl" {
			return
		}
		o := ca.options(name)
		o.Location, o.RootCert = time.UTC, 1
		reader, err := makers[name](&o, &File{options: o})
		if err != nil {
			t.Fatal(err)
		}
		_ = reader.read(bytes.NewReader(text), func(e entry) error {
			if strings.ContainsAny(e.problem, "\x00") || len(e.problem) > 500 {
				t.Errorf("problem %q", e.problem)
			}
			if e.problem == "" && e.skip == "" && name != "certificates" && name != "step-ca" && name != "cfssl" && e.row.Serial.Check() != nil {
				t.Errorf("row %+v", e.row)
			}
			return nil
		})
	})
}
