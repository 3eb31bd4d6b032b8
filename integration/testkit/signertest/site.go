package signertest

import (
	"bytes"
	"crypto"
	"log/slog"
	"math/big"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
)

// Site is what a responder needs, on an injected clock: a CA, a copy, a token.
type Site struct {
	TB    testing.TB
	CA    *CA
	Copy  *Copy
	Keys  *Keyring
	Key   crypto.Signer
	Logs  *bytes.Buffer
	clock atomic.Int64 // UnixNano
}

// NewSite has a row for each of the serials of this package, and a certificate for key.
func NewSite(tb testing.TB, caKey, key crypto.Signer) *Site {
	tb.Helper()
	s := &Site{
		TB: tb, CA: NewCA(tb, 1, "root-one", caKey), Key: key, Keys: &Keyring{Keys: []crypto.Signer{key}},
		Copy: &Copy{Rows: make(map[string]db.Status)}, Logs: new(bytes.Buffer),
	}
	s.SetTime(Noon)
	s.Copy.IssuerRows = []db.Issuer{s.CA.Row(Policy())}
	s.Copy.Change(Noon, s.CA.ID, Serial(GoodSerial), s.Issued())
	s.Copy.Change(Noon, s.CA.ID, Serial(RevokedSerial), s.RevokedRow(RevokedAt, db.ReasonSuperseded))
	s.Copy.Change(Noon, s.CA.ID, Serial(HoldSerial), s.RevokedRow(RevokedAt, db.ReasonCertificateHold))
	s.AddCert(s.CA.Delegate(tb, OwnSerial, key.Public(), Noon.Add(-24*time.Hour), Noon.Add(6*24*time.Hour)))
	return s
}

// Time is the site's clock.
func (s *Site) Time() time.Time { return time.Unix(0, s.clock.Load()).UTC() }

// SetTime sets it.
func (s *Site) SetTime(t time.Time) { s.clock.Store(t.UnixNano()) }

// Logger writes to Logs.
func (s *Site) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(&lockedWriter{w: s.Logs}, nil))
}

// Issued is the status of a good certificate.
func (s *Site) Issued() db.Status {
	return db.Status{NotAfter: Noon.AddDate(1, 0, 0), Reason: db.ReasonNone}
}

// RevokedRow is the status of a revoked certificate.
func (s *Site) RevokedRow(at time.Time, reason db.Reason) db.Status {
	return db.Status{NotAfter: Noon.AddDate(1, 0, 0), Revoked: true, RevokedAt: at, Reason: reason}
}

// SetPolicy changes the policy of the one issuer.
func (s *Site) SetPolicy(f func(*db.Policy)) {
	s.Copy.Edit(func() {
		rows := slices.Clone(s.Copy.IssuerRows)
		f(&rows[0].Policy)
		rows[0].Policy.Version++
		s.Copy.IssuerRows = rows
	})
}

// AddCert writes the row of one more responder certificate.
func (s *Site) AddCert(c db.ResponderCertificate) {
	s.Copy.Edit(func() { s.Copy.Certs = append(slices.Clone(s.Copy.Certs), c) })
	s.Copy.Change(s.Time(), c.IssuerID, c.Serial, s.Issued())
}

// Request asks for one serial with a SHA-1 CertID, as most clients do.
func (s *Site) Request(serial *big.Int) []byte {
	return Request(s.TB, s.CA, crypto.SHA1, serial)
}

type lockedWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
