package doctor_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ocspfleet/db/sitedb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
	"ocspfleet/ops/doctor"

	"github.com/jackc/pgx/v5"
)

// site is a site's database with one issuer and one responder certificate.
type site struct {
	dsn    string
	conn   *pgx.Conn
	caDER  []byte
	key    doctor.Key
	doctor doctor.Site
}

// begun is when the certificate's seven days began.
var begun = time.Now().Add(-time.Hour).Truncate(time.Second)

func newSite(t *testing.T, change func(*x509.Certificate)) *site {
	t.Helper()
	s := &site{dsn: dbtest.New(t, migrations.Site)}
	s.conn = dbtest.Connect(t, s.dsn)
	caKey, key := newKey(t), newKey(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: begun, NotAfter: begun.Add(8760 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "site-a"}, NotBefore: begun, NotAfter: begun.Add(168 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
	}
	if change != nil {
		change(leaf)
	}
	s.caDER = sign(t, ca, ca, caKey, caKey)
	ca, err := x509.ParseCertificate(s.caDER)
	if err != nil {
		t.Fatal(err)
	}
	der := sign(t, leaf, ca, key, caKey)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	s.key = doctor.Key{Label: "ocsp-site-a", Kind: "p256", Hash: sha256.Sum256(spki)}
	s.exec(t, `insert into issuer values (1, sha256('key'), 'web-ca', $1, 259200, 300, 129600, 900, 3600, 'unknown', 'revocable', '', 1)`, s.caDER)
	s.exec(t, `insert into certificate (issuer_id, serial, not_after) values (1, '\x07', $1)`, leaf.NotAfter)
	s.exec(t, `insert into responder_certificate values (sha256($1), 1, '\x07', 'site-a', $2, $1)`, der, s.key.Hash[:])
	s.head(t)
	s.doctor = doctor.Site{
		Store: open(t, s.dsn), Now: time.Now,
		Tokens: func(context.Context) ([]doctor.Token, error) { return []doctor.Token{token(s.key)}, nil },
	}
	return s
}

// head makes the head say what is there.
func (s *site) head(t *testing.T) {
	t.Helper()
	s.exec(t, `insert into feed_head (id, epoch, position, as_of, certificate_count, certificate_digest, issuer_count, issuer_digest,
		responder_certificate_count, responder_certificate_digest, correction_count, correction_digest, closed_pin_count, closed_pin_digest, audit_count, audit_hash) values (1, 1, 1, clock_timestamp(),
		1, (select mod64(sum(row_digest(certificate_canonical(issuer_id, serial, not_after, revoked_at, reason)))) from certificate),
		1, (select mod64(sum(row_digest(issuer_canonical(i)))) from issuer i),
		1, (select mod64(sum(row_digest(responder_certificate_canonical(r)))) from responder_certificate r), 0, 0, 0, 0, 0, sha256(''))
		on conflict (id) do update set certificate_digest = excluded.certificate_digest`)
}

func (s *site) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := s.conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, c, ca *x509.Certificate, key, caKey *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, ca, key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func open(t *testing.T, dsn string) *sitedb.DB {
	t.Helper()
	store, err := sitedb.Open(t.Context(), tables.Config{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

// want says that the results hold one that begins with the level and the check
// and holds the text, and that it names a fix unless all is well.
func want(t *testing.T, all []doctor.Result, level doctor.Level, check, text string) {
	t.Helper()
	var said []string
	for _, f := range all {
		if (f.Level == doctor.OK) != (f.Fix == "") {
			t.Errorf("result and fix: %+v", f)
		}
		if f.Level == level && f.Check == check && strings.Contains(f.Text, text) {
			return
		}
		said = append(said, fmt.Sprintf("%s %s: %s", f.Level, f.Check, f.Text))
	}
	t.Errorf("no %s %s: %s\namong\n%s", level, check, text, strings.Join(said, "\n"))
}

func TestDoctorJudgesTheCertificate(t *testing.T) {
	const check = "certificate web-ca"
	for _, c := range []struct {
		name   string
		change func(*x509.Certificate)
		sql    string
		now    time.Duration // after begun
		level  doctor.Level
		text   string
	}{
		{"well", nil, "", time.Hour, doctor.OK, "07: key, chain and use are right, it ends in 6 days"},
		{"ends soon", nil, "", 120 * time.Hour, doctor.Warn, "less than a third"},
		{"expired", nil, "", 168 * time.Hour, doctor.Fail, "has expired"},
		{"not yet", nil, "", -time.Hour, doctor.Fail, "begins at"},
		{"revoked", nil, "update certificate set revoked_at = '2026-01-01Z'", 0, doctor.Fail, "is revoked since 2026-01-01"},
		{"absent", nil, "delete from certificate", 0, doctor.Fail, "never issued"},
		{"other use", func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }, "", 0, doctor.Fail, "another extended key usage"},
		{"other key", nil, "update responder_certificate set key_hash = sha256('x')", 0, doctor.Fail, "there is none for a key of this token"},
		{"damaged issuer", nil, `update issuer set certificate = '\x3000'`, 0, doctor.Fail, "reading the issuer's certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, c.change)
			if c.sql != "" {
				s.exec(t, c.sql)
			}
			s.doctor.Now = func() time.Time { return begun.Add(c.now) }
			want(t, s.doctor.Examine(t.Context()), c.level, check, c.text)
		})
	}
}

// token is a token that can do all that is needed.
func token(keys ...doctor.Key) doctor.Token {
	return doctor.Token{Name: "site-a", Mechanisms: []string{"ECDSA", "RSA_PKCS"}, Keys: keys}
}

func TestDoctorOfAnotherIssuersCertificate(t *testing.T) {
	s, other := newSite(t, nil), newSite(t, nil) // the same name, another key
	s.exec(t, "update issuer set certificate = $1", other.caDER)
	want(t, s.doctor.Examine(t.Context()), doctor.Fail, "certificate web-ca", "does not bear the issuer's signature")
}

func TestDoctorJudgesCopyAndClock(t *testing.T) {
	s := newSite(t, nil)
	all := s.doctor.Examine(t.Context())
	want(t, all, doctor.OK, "rows", "3, as the head counts them")
	want(t, all, doctor.OK, "memory", "every permanent revocation")
	want(t, all, doctor.OK, "age", "good ends in 35h59m")
	want(t, all, doctor.Warn, "clock", "was never compared")
	want(t, all, doctor.Fail, "subscription", "there is none")
	for _, c := range []struct {
		sql   string
		level doctor.Level
		check string
		text  string
	}{
		{"update site_state set skew_ms = 5, skew_at = clock_timestamp()", doctor.OK, "clock", "5ms"},
		{"update site_state set skew_ms = -90000", doctor.Warn, "clock", "-1m30s"},
		{"update site_state set skew_ms = -301000", doctor.Fail, "clock", "good ends"},
		{"update site_state set skew_ms = 5, skew_at = clock_timestamp() - interval '1 h'", doctor.Warn, "clock", "1h0m"},
		{"update feed_head set as_of = clock_timestamp() - interval '2 min'", doctor.Warn, "age", "is 2m0s old"},
		{"update feed_head set as_of = clock_timestamp() - interval '40 h'", doctor.Fail, "age", "good has ended at 36h"},
		{"update feed_head set as_of = clock_timestamp() + interval '1 h'", doctor.Fail, "age", "ahead of this machine"},
		{"update certificate set not_after = not_after + interval '1 s'", doctor.Fail, "rows", "those of certificate"},
		{
			"set role ocsp_sync; insert into certificate values (1, '\\x09', '2099-01-01', '2026-01-01', 1); delete from certificate where serial = '\\x09'; reset role",
			doctor.Fail, "memory", "have lost 1 permanent revocations that this site remembers, 1/09",
		},
		{"delete from issuer", doctor.Fail, "issuers", "there is none in the database"},
		{"delete from feed_head", doctor.Fail, "copy", "never seeded"},
	} {
		s.exec(t, c.sql)
		want(t, s.doctor.Examine(t.Context()), c.level, c.check, c.text)
	}
}

func TestDoctorJudgesTokenPinsAndPorts(t *testing.T) {
	s := newSite(t, nil)
	ready := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(ready)
		fmt.Fprintln(w, "token:\nno key")
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	s.doctor.Daemon = &doctor.Daemon{Store: open(t, s.dsn), Listen: address, Admin: address, Pins: []doctor.Pin{
		{Name: "ca.pem", Fingerprint: sha256.Sum256(s.caDER)}, {Name: "old.pem"}, {Name: "gone.pem", Err: errors.New("no such file")},
	}}
	all := s.doctor.Examine(t.Context())
	want(t, all, doctor.OK, "token", "holds 1 keys: ocsp-site-a")
	want(t, all, doctor.OK, "issuers", "1 are served")
	want(t, all, doctor.Warn, "issuers", "old.pem is pinned")
	want(t, all, doctor.Fail, "issuers", "gone.pem: no such file")
	want(t, all, doctor.Fail, "rights", "superuser")
	want(t, all, doctor.OK, "ocspd admin", "is ready")
	want(t, all, doctor.OK, "ocspd public", "answers (200)")

	ready = http.StatusServiceUnavailable
	s.doctor.Daemon.Pins = nil
	s.doctor.Daemon.Store = open(t, dbtest.As(s.dsn, "ocsp_sync"))
	s.doctor.Tokens = func(context.Context) ([]doctor.Token, error) { return nil, errors.New("CKR_PIN_INCORRECT") }
	all = s.doctor.Examine(t.Context())
	want(t, all, doctor.Fail, "token", "CKR_PIN_INCORRECT")
	want(t, all, doctor.Fail, "ocspd admin", "503: token: no key")
	want(t, all, doctor.Warn, "issuers", "not pinned")
	if doctor.Well(all) {
		t.Error("well, with failures")
	}
}
