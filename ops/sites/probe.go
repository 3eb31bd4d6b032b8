package sites

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"

	"golang.org/x/crypto/ocsp"
)

const (
	// maxAnswer bounds what is read of an answer: including the certificate it has 2 KiB.
	maxAnswer = 64 << 10
)

// ask sends one OCSP request by POST (RFC 6960 appendix A.1). With a nonce the answer is made now:
// a cached one's thisUpdate is older than the site's horizon, by up to the policy's refresh.
func (v Surveyor) ask(ctx context.Context, url string, ca *x509.Certificate, serial db.Serial, fresh bool) ([]byte, Result, error) {
	body, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial)}, ca, &ocsp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		return nil, ResultWrong, fmt.Errorf("making a request: %w", err)
	}
	if fresh {
		if body, err = addNonce(body); err != nil {
			return nil, ResultWrong, fmt.Errorf("making a request: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, ResultUnreachable, fmt.Errorf("asking: %w", err)
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	resp, err := v.Client.Do(req)
	if err != nil {
		return nil, ResultUnreachable, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, ResultRefused, fmt.Errorf("HTTP status %s", resp.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, ResultUnreachable, fmt.Errorf("reading the answer: %w", err)
	}
	if len(raw) > maxAnswer {
		return nil, ResultWrong, fmt.Errorf("the answer is longer than %d octets", maxAnswer)
	}
	return raw, "", nil
}

var oidNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}

// addNonce puts a nonce of 32 octets (RFC 9654 section 2.1) into a request that
// has no extension.
func addNonce(request []byte) ([]byte, error) {
	var r struct {
		TBS struct {
			Requests   asn1.RawValue
			Extensions []pkix.Extension `asn1:"explicit,tag:2,optional"`
		}
	}
	if rest, err := asn1.Unmarshal(request, &r); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("reading it back: %w", err)
	}
	nonce := make([]byte, 32)
	rand.Read(nonce) // never fails
	value, err := asn1.Marshal(nonce)
	if err != nil {
		return nil, fmt.Errorf("encoding the nonce: %w", err)
	}
	r.TBS.Extensions = []pkix.Extension{{Id: oidNonce, Value: value}}
	return asn1.Marshal(r)
}

// checkAnswer compares an answer with the required one: one that a client must accept now, signed
// by one of the site's own delegated certificates, about this serial, with the wanted status.
func checkAnswer(raw []byte, ca *x509.Certificate, serial db.Serial, site masterdb.Responder, want int, now time.Time) (*ocsp.Response, Result, error) {
	answer, err := Verify(raw, ca, now)
	if refused := (ocsp.ResponseError{}); errors.As(err, &refused) {
		why := ""
		if refused.Status == ocsp.TryLater {
			why = ": it doubts its copy or its clock, or is overloaded: ocspctl doctor, at the site"
		}
		return nil, ResultRefused, fmt.Errorf("OCSP error %s%s", refused.Status, why)
	}
	if err != nil {
		return answer, ResultWrong, err
	}
	wrong := func(format string, args ...any) (*ocsp.Response, Result, error) {
		return answer, ResultWrong, fmt.Errorf(format, args...)
	}
	signer := answer.Certificate
	switch {
	case signer == nil:
		return wrong("the answer is not signed by a delegated certificate")
	case !owns(site, sha256.Sum256(signer.Raw)):
		return wrong("the signer's certificate (serial %x) is none of this site's", signer.SerialNumber)
	case !bytes.Equal(db.SerialFromMagnitude(answer.SerialNumber.Bytes(), answer.SerialNumber.Sign() < 0), serial):
		return wrong("the answer is about another serial: %x", answer.SerialNumber)
	case answer.Status != want:
		return wrong("the site says %s where the master says %s", statusName(answer.Status), statusName(want))
	}
	return answer, ResultOK, nil
}

func owns(site masterdb.Responder, fingerprint [32]byte) bool {
	return slices.ContainsFunc(site.Certificates, func(c masterdb.RosterCertificate) bool { return c.Fingerprint == fingerprint })
}

func statusName(status int) string {
	switch status {
	case ocsp.Good:
		return "good"
	case ocsp.Revoked:
		return "revoked"
	default:
		return "unknown"
	}
}
