package ingest

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"

	"github.com/google/go-cmp/cmp"
)

func revocation(serial int64, hoursAgo, reason int) x509.RevocationListEntry {
	return x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: now.Add(-time.Duration(hoursAgo) * time.Hour), ReasonCode: reason}
}

// part is the IssuingDistributionPoint of one part of a list.
func part(url string) pkix.Extension {
	name := append([]byte{0xa0, byte(2 + len(url)), 0x86, byte(len(url))}, url...)
	return extension(28, []asn1.RawValue{{Class: 2, Tag: 0, IsCompound: true, Bytes: name}})
}

// Of two CRLs of one issuer the second was not looked at. Both are taken, in the order of
// their numbers: what is revoked in either is, and what is on hold says the newer.
func TestTwoCRLsOfOneIssuerAreTakenInTheOrderOfTheirNumbers(t *testing.T) {
	ca, store := newAuthority(t, "CA one"), master(t)
	older := asPEM("X509 CRL", ca.crl(t, 7, []x509.RevocationListEntry{
		revocation(10, 9, 6), revocation(11, 9, 6), revocation(12, 9, 4), revocation(13, 9, 4), revocation(15, 5, 4),
	}))
	newer := asPEM("X509 CRL", ca.crl(t, 8, []x509.RevocationListEntry{
		revocation(11, 8, 1), revocation(13, 9, 1), revocation(14, 7, 6), revocation(15, 6, 4),
	}))
	const at = " revoked 2026-11-22T0"
	want := []string{
		"0b" + at + "4:00:00Z keyCompromise", "0c" + at + "3:00:00Z superseded", "0d" + at + "3:00:00Z keyCompromise",
		"0e" + at + "5:00:00Z certificateHold", "0f" + at + "6:00:00Z superseded", "on hold in an older CRL", "on hold in an older CRL",
	}
	for name, paths := range map[string][]string{
		"one PEM":                  {keep(t, "both.pem", append(slices.Clone(older), newer...))},
		"one PEM, the newer first": {keep(t, "both.pem", append(slices.Clone(newer), older...))},
		"two files":                {keep(t, "new.crl", newer), keep(t, "old.crl", older)},
	} {
		got := sayAll(t, store, paths, ca.options("crl"))
		for i := range got {
			got[i] = got[i][strings.LastIndex(got[i], ": ")+2:]
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	bad := keep(t, "both.pem", append(slices.Clone(newer), asPEM("X509 CRL", newAuthority(t, "CA two").crl(t, 1, nil))...))
	if got := say(t, store, bad, ca.options("crl")); !strings.Contains(got[0], `CRL 2: it is the CRL of "CN=CA two"`) {
		t.Errorf("another issuer's: %q", got)
	}
	if got := sayAll(t, store, []string{"a.csv", "b.csv"}, ca.options("csv")); !strings.Contains(got[0], "want one (several: crl alone)") {
		t.Errorf("two tables: %q", got)
	}
}

// Parts of one list are one list, and each has numbers of its own.
func TestPartsOfACRLAreOneListWithNumbersOfTheirOwn(t *testing.T) {
	store := master(t)
	ca := newAuthority(t, "CA one")
	o := ca.options("crl")
	o.Issuer = oneIssuer(t, store)
	o.Issuer.Certificate = ca.cert.Raw
	var rows []masterdb.Row
	for _, serial := range []byte{10, 11} {
		rows = append(rows, masterdb.Row{Serial: db.Serial{serial}, Status: db.Status{NotAfter: now.AddDate(1, 0, 0), Reason: db.ReasonNone}})
	}
	if _, _, _, err := store.ImportBatch(t.Context(), o.Issuer.ID, rows, masterdb.ImportSource{}, act); err != nil {
		t.Fatal(err)
	}
	zero := keep(t, "0.crl", ca.crl(t, 5, []x509.RevocationListEntry{revocation(10, 2, 4)}, part("http://ca.example/0.crl")))
	one := keep(t, "1.crl", ca.crl(t, 900, []x509.RevocationListEntry{revocation(11, 2, 4)}, part("http://ca.example/1.crl")))
	read := func(paths ...string) *File {
		var err error
		if o.LastCRLs, err = store.CRLNumbers(t.Context(), o.Issuer.ID); err != nil {
			t.Fatal(err)
		}
		f, err := Open(t.Context(), store, paths, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.Close)
		return f
	}
	apply := func(f *File) Result {
		p, err := f.Plan(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		done, err := p.Apply(t.Context(), store, act, nil)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	if done := apply(read(one, zero)); done != (Result{Revoked: 2}) {
		t.Errorf("both parts: %+v", done)
	}
	if done := apply(read(zero)); done != (Result{Unchanged: 1}) { // number 5, after 900 of the other part
		t.Errorf("the part with the smaller number again: %+v", done)
	}
	if c, err := read(zero, one).Reconcile(t.Context(), nil); err != nil || c.Different() != 0 {
		t.Errorf("both parts against the master: %d differ, %v", c.Different(), err)
	}
	if c, err := read(one).Reconcile(t.Context(), nil); err != nil || c.Different() != 1 {
		t.Errorf("one part against the master: %d differ, %v", c.Different(), err)
	}
	older := keep(t, "1.crl", ca.crl(t, 899, nil, part("http://ca.example/1.crl")))
	if got := sayAll(t, store, []string{older, zero}, o); !strings.Contains(got[0], "its number is 899, and number 900 was imported before") {
		t.Errorf("an older part: %q", got)
	}
	if n, err := store.CRLNumber(t.Context(), o.Issuer.ID); err != nil || n.Int64() != 900 {
		t.Errorf("greatest number %v, %v", n, err)
	}
}

// One odd entry made a signed CRL useless for ever.
func TestOddEntriesOfASignedCRLAreLeftOutOnRequest(t *testing.T) {
	ca, store := newAuthority(t, "CA one"), master(t)
	const day = "20261120120000Z"
	path := keep(t, "odd.crl", ca.rawCRL(t, 7, []rawEntry{
		{[]byte{10}, day, 4},
		{[]byte{0xf6}, day, 4},                              // negative
		{append([]byte{0x7f}, make([]byte, 20)...), day, 4}, // 21 octets
		{[]byte{0, 11}, day, 4},                             // not minimal
		{[]byte{12}, day, 7},                                // no reason of RFC 5280
		{[]byte{13}, day, 8},                                // removeFromCRL
		{[]byte{14}, stampOf(now.AddDate(900, 0, 0)), 4},    // of the future
		{[]byte{15}, "19700101000000Z", 4},                  // before 1971
		{[]byte{16}, day, 4},
		{[]byte{16}, "20261119120000Z", 1}, // twice
	}))
	o := ca.options("crl")
	f, err := Open(t.Context(), store, []string{path}, o)
	if err == nil || !strings.Contains(err.Error(), "8 bad rows in") || !strings.HasSuffix(err.Error(), "(--skip-bad takes the others)") {
		t.Errorf("without --skip-bad: %v, %v", f, err)
	}
	o.SkipBad = true
	want := []string{
		"row 1: 0a revoked 2026-11-20T12:00:00Z superseded", "row 5: 0c revoked 2026-11-20T12:00:00Z ", "row 10: 10 revoked 2026-11-19T12:00:00Z keyCompromise",
		"bad row 4: serial 000b: is not in its shortest form (X.690 section 8.3.2)", `bad row 5: reason "7": is none of RFC 5280's numbers`,
		`bad row 6: reason "8" (removeFromCRL): is no revocation (RFC 5280 section 5.3.1)`, "bad row 2: serial f6: is negative (RFC 5280 section 4.1.2.2)",
		"bad row 3: serial 7f0000000000000000000000000000000000000000: has 21 octets, more than 20 (RFC 5280 section 4.1.2.2)",
		"bad row 7: revocation time 2926-11-22T12:00:00Z lies in the future", "bad row 8: revocation time 1970-01-01T00:00:00Z lies before 1971",
		"bad row 10: serial 10 stands in row 9 already, and says something else",
	}
	if diff := cmp.Diff(want, say(t, store, path, o)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	hold := ca.options("crl")
	hold.SkipBad, hold.Issuer.Policy.Profile = true, db.ProfileBR
	indirect := []x509.RevocationListEntry{{SerialNumber: big.NewInt(10), RevocationTime: now.Add(-time.Hour), ExtraExtensions: []pkix.Extension{extension(29, []int{})}}}
	if got := say(t, store, keep(t, "indirect.crl", ca.crl(t, 7, indirect)), o); !strings.Contains(got[0], "the CRL is an indirect one") {
		t.Errorf("what is about the whole CRL: %q", got)
	}
}

// A CRL past its nextUpdate proves nothing of today.
func TestReconcileSaysThatTheCRLHasEnded(t *testing.T) {
	store := master(t)
	ca := newAuthority(t, "CA one")
	o := ca.options("crl")
	o.Issuer = oneIssuer(t, store)
	o.Issuer.Certificate = ca.cert.Raw
	path := keep(t, "old.crl", ca.crl(t, 7, nil)) // ends a day after now
	for ended, at := range []time.Time{now, now.Add(25 * time.Hour)} {
		o.Now = at
		f, err := Open(t.Context(), store, []string{path}, o)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := f.Reconcile(t.Context(), nil); err != nil || c.Different() != 0 || len(c.Ended) != ended {
			t.Errorf("at %s: %v, %v", at, c.Ended, err)
		}
		f.Close()
	}
}

// A site's certificate that is planned and not signed yet, revoked or not, is in no list.
func TestPlannedResponderCertificatesAreNoDifference(t *testing.T) {
	dsn := dbtest.New(t, migrations.Master)
	store, err := masterdb.Open(t.Context(), tables.Config{DSN: dsn, MaxConns: 5})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	if err := store.InitHead(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	ca := newAuthority(t, "CA one")
	issuer := oneIssuer(t, store)
	issuer.Certificate = ca.cert.Raw
	end := time.Now().AddDate(1, 0, 0).Truncate(time.Second)
	for _, serial := range []byte{0x21, 0x22} {
		if _, err := store.Issue(t.Context(), issuer.ID, db.Serial{serial}, end, act); err != nil {
			t.Fatal(err)
		}
	}
	dbtest.Exec(t, dsn, `set search_path = public, ocsp_internal, pg_temp; select responder_add('site-a', 'http://a', '{}', '', '');
		insert into responder_planned select id, s, 'site-a', sha256('k'), now(), '2099-01-01Z' from issuer, unnest(array['\x21', '\x22']::bytea[]) s`)
	if _, _, err := store.Revoke(t.Context(), issuer.ID, db.Serial{0x22}, db.ReasonSuperseded, now.Add(-2*time.Hour), act); err != nil {
		t.Fatal(err)
	}
	for form, text := range map[string][]byte{
		"crl": ca.crl(t, 7, nil), "csv": []byte("issuer," + ownHead + "two,0a,2030-12-31T23:59:59Z,good,,\n" + issuer.Name + ",0b,2030-12-31T23:59:59Z,good,,\n"),
	} {
		o := ca.options(form)
		o.Issuer = issuer
		f, err := Open(t.Context(), store, []string{keep(t, "file", text)}, o)
		if err != nil {
			t.Fatal(err)
		}
		c, err := f.Reconcile(t.Context(), nil)
		if err != nil || c.Missing.Rows != 0 {
			t.Errorf("%s: missing %+v, %v", form, c.Missing, err)
		}
		f.Close()
	}
}

// A CRL came first, with a guessed end; then index.txt, which knows the end: it wins where
// it is later, and is not refused where it is earlier.
func TestTheIndexKnowsTheEndThatACRLDidNot(t *testing.T) {
	store := master(t)
	ca := newAuthority(t, "CA one")
	o := ca.options("crl")
	o.Issuer = oneIssuer(t, store)
	o.Issuer.Certificate = ca.cert.Raw
	o.NotAfter = time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
	if done, err := planOf(t, keep(t, "one.crl", ca.crl(t, 7, []x509.RevocationListEntry{revocation(10, 2, 4), revocation(11, 2, 4), revocation(12, 2, 6)})), store, o).
		Apply(t.Context(), store, act, nil); err != nil || done.Inserted != 3 {
		t.Fatalf("CRL: %+v, %v", done, err)
	}
	when := now.Add(-2 * time.Hour).Format("060102150405Z")
	index := write(t, "R\t320101000000Z\t"+when+",superseded\t0A\tunknown\t/CN=later", "R\t300101000000Z\t"+when+",superseded\t0B\tunknown\t/CN=earlier",
		"R\t320101000000Z\t"+when+",keyCompromise\t0C\tunknown\t/CN=held")
	p := plan(t, index, store, o.Issuer)
	if p.Refusal() != nil || p.Counts[masterdb.ImportEnd] != 1 || p.Counts[masterdb.ImportGuessed] != 1 || p.Counts[masterdb.ImportPermanent] != 1 || p.Conflicts() != 0 {
		t.Fatalf("plan %v, %v", p.Counts, p.Refusal())
	}
	if done, err := p.Apply(t.Context(), store, act, nil); err != nil || done != (Result{Revoked: 1, Unchanged: 1}) {
		t.Fatalf("apply: %+v, %v", done, err)
	}
	for serial, want := range map[byte]int{10: 2032, 11: 2031, 12: 2032} {
		if s, err := store.Certificate(t.Context(), o.Issuer.ID, db.Serial{serial}); err != nil || !s.Permanent() || s.NotAfter.Year() != want {
			t.Errorf("serial %d: %+v, %v", serial, s, err)
		}
	}
	p = plan(t, index, store, o.Issuer)
	if p.Writes() != 0 || p.Counts[masterdb.ImportSame] != 2 || p.Counts[masterdb.ImportGuessed] != 1 {
		t.Errorf("second plan %v", p.Counts)
	}
	if p.States[db.StateRevoked] != 3 || p.States[db.StateGood] != 0 {
		t.Errorf("states %v", p.States)
	}
	if _, err := plan(t, write(t, "V\t330101000000Z\t\t0A\tunknown\t/CN=another"), store, o.Issuer).Apply(t.Context(), store, act, nil); err == nil {
		t.Error("an end that is no guess any more was changed")
	}
}
