package devfleet

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"time"

	"golang.org/x/crypto/ocsp"

	"ocspfleet/ops/sites"
)

// askClient asks as a stranger would: each time by a connection of its own.
var askClient = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// Site returns the site of this name.
func (f *Fleet) Site(name string) (Site, error) {
	for _, s := range f.Sites {
		if s.Name == name {
			return s, nil
		}
	}
	return Site{}, usagef("no site %q in this fleet", name)
}

// IssuerCertificate reads the certificate of an issuer.
func (f *Fleet) IssuerCertificate(i Issuer) (*x509.Certificate, error) {
	return ReadCertificate(f.Path(i.Certificate))
}

// Ask asks a site for one serial by POST and verifies the answer as a
// client must (ops/sites). An OCSP error is an ocsp.ResponseError.
func (f *Fleet) Ask(ctx context.Context, site Site, issuer Issuer, serial string) (*ocsp.Response, error) {
	ca, err := f.IssuerCertificate(issuer)
	if err != nil {
		return nil, err
	}
	octets, err := hex.DecodeString(serial)
	if err != nil {
		return nil, fmt.Errorf("reading serial %q: %w", serial, err)
	}
	asked := &x509.Certificate{SerialNumber: new(big.Int).SetBytes(octets)}
	request, err := ocsp.CreateRequest(asked, ca, nil)
	if err != nil {
		return nil, fmt.Errorf("making the request for %s: %w", serial, err)
	}
	body, err := post(ctx, site.URL, request)
	if err != nil {
		return nil, fmt.Errorf("asking %s for %s: %w", site.Name, serial, err)
	}
	answer, err := sites.Verify(body, ca, time.Now())
	if err != nil {
		return nil, fmt.Errorf("judging the answer of %s for %s: %w", site.Name, serial, err)
	}
	if answer.SerialNumber.Cmp(asked.SerialNumber) != 0 {
		return nil, fmt.Errorf("judging the answer of %s for %s: it is about %x", site.Name, serial, answer.SerialNumber)
	}
	return answer, nil
}

func post(ctx context.Context, url string, request []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(request))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/ocsp-request")
	response, err := askClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %s", response.Status)
	}
	return body, nil
}

// AwaitStatus polls a site until it answers with this status (ocsp.Good ...),
// verified, and returns how long that took.
func (f *Fleet) AwaitStatus(ctx context.Context, site Site, issuer Issuer, serial string, status int, limit time.Duration) (time.Duration, error) {
	began := time.Now()
	err := poll(ctx, limit, func() error {
		answer, err := f.Ask(ctx, site, issuer, serial)
		if err != nil {
			return err
		}
		if answer.Status != status {
			return fmt.Errorf("%s says %s for %s", site.Name, StatusName(answer.Status), serial)
		}
		return nil
	})
	return time.Since(began), err
}

// StatusName is the word for a certificate status of an answer.
func StatusName(status int) string {
	switch status {
	case ocsp.Good:
		return "good"
	case ocsp.Revoked:
		return "revoked"
	default:
		return "unknown"
	}
}

// OpenSSLArgs are the arguments with which openssl asks a site for a serial and
// verifies the answer.
func (f *Fleet) OpenSSLArgs(site Site, issuer Issuer, serial string) []string {
	return []string{
		"ocsp", "-CAfile", issuer.TrustAnchors[0], "-issuer", issuer.Certificate, "-serial", "0x" + serial, "-url", site.URL,
	}
}

// AwaitStopped polls a site until it answers with an OCSP error that says that it
// may not sign (unauthorized), or cannot now (tryLater).
func (f *Fleet) AwaitStopped(ctx context.Context, site Site, issuer Issuer, serial string, limit time.Duration) error {
	return poll(ctx, limit, func() error {
		answer, err := f.Ask(ctx, site, issuer, serial)
		var refused ocsp.ResponseError
		switch {
		case errors.As(err, &refused) && (refused.Status == ocsp.Unauthorized || refused.Status == ocsp.TryLater):
			return nil
		case err != nil:
			return err
		default:
			return fmt.Errorf("%s still says %s", site.Name, StatusName(answer.Status))
		}
	})
}
