package ocsphttp

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"ocspfleet/db"
	"ocspfleet/signer"
)

// crlPrefix is the path of the CRLs of responder certificates.
const crlPrefix = "/crl/"

// crls serves the CRLs that the copy holds, to clients that check the responder's own
// certificate (profile revocable, RFC 5280 section 5). It serves only CRLs of pinned issuers
// that their key has signed: write access to the site's database is not enough to serve
// anything else.
type crls struct {
	responder *signer.Responder
	now       func() time.Time
	next      http.Handler

	mu   sync.Mutex
	last map[string]*crl // by issuer; what was checked last
}

// crl is one CRL that was checked; list is nil when the check failed.
type crl struct {
	der  []byte
	list *x509.RevocationList
	etag string
	// older is a CRL with a lower number that the copy holds instead of this one.
	older []byte
}

// WithCRLs serves GET and HEAD of /crl/NAME with the CRL of that issuer's responder
// certificates. next serves all else, also OCSP requests below /crl/.
func WithCRLs(r *signer.Responder, now func() time.Time, next http.Handler) http.Handler {
	return &crls{responder: r, now: now, next: next, last: make(map[string]*crl)}
}

// ServeHTTP implements http.Handler.
func (h *crls) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	name, below := strings.CutPrefix(req.URL.Path, crlPrefix)
	if !below || req.Method != http.MethodGet && req.Method != http.MethodHead {
		h.next.ServeHTTP(w, req)
		return
	}
	found := h.find(name)
	if found == nil {
		h.next.ServeHTTP(w, req)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "application/pkix-crl") // RFC 2585 section 4.2
	header.Set("ETag", found.etag)
	// A cache that keeps the CRL longer delays the revocation of a compromised site.
	left := found.list.NextUpdate.Sub(h.now())
	maxAge := max(0, min(left/2, 10*time.Minute))
	header.Set("Cache-Control", "max-age="+strconv.FormatInt(int64(maxAge/time.Second), 10)+", public, no-transform, must-revalidate")
	http.ServeContent(w, req, "", found.list.ThisUpdate, bytes.NewReader(found.der))
}

// find returns the CRL of a pinned issuer, or nil.
func (h *crls) find(name string) *crl {
	row, pinned, ok := h.responder.Issuer(name)
	if !ok {
		return nil
	}
	return h.check(row, pinned)
}

// check checks a CRL once. It returns nil when there is none, or none that may be served.
// Numbers never decrease (RFC 5280 section 5.2.3): while the served CRL is current, one with a
// lower number does not replace it. A master restored from a backup, or an attacker in the
// site's database, could put one there.
func (h *crls) check(row db.Issuer, ca *x509.Certificate) *crl {
	if len(row.CRL) == 0 {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	held := h.last[row.Name]
	kept := held != nil && held.list != nil && h.now().Before(held.list.NextUpdate)
	switch {
	case held != nil && bytes.Equal(held.der, row.CRL):
	case kept && held.older != nil && bytes.Equal(held.older, row.CRL):
	default:
		next := readCRL(row.CRL, ca)
		if kept && next.list != nil && next.list.Number.Cmp(held.list.Number) < 0 {
			held.older = row.CRL
			return held
		}
		held = next
		h.last[row.Name] = held
	}
	if held.list == nil {
		return nil
	}
	return held
}

// readCRL reads a CRL and verifies it with the pinned key.
func readCRL(der []byte, ca *x509.Certificate) *crl {
	sum := sha256.Sum256(der)
	c := &crl{der: der, etag: `"` + hex.EncodeToString(sum[:16]) + `"`}
	if list, err := x509.ParseRevocationList(der); err == nil && list.Number != nil && bytes.Equal(list.RawIssuer, ca.RawSubject) &&
		ca.CheckSignature(list.SignatureAlgorithm, list.RawTBSRevocationList, list.Signature) == nil {
		c.list = list
	}
	return c
}
