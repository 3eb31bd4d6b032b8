package integration

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ocspfleet/integration/testkit/devfleet"
	"ocspfleet/integration/testkit/faultpkcs11"

	"golang.org/x/crypto/ocsp"
)

// tokenSite is a fleet of one site whose token is made ill and changed.
type tokenSite struct {
	*devfleet.Fleet
	t       *testing.T
	site    devfleet.Site
	client  *http.Client
	asks    []*prepared   // by issuer, with a nonce: signed anew each time
	plain   [][]*prepared // by issuer, without: from the cache the second time
	library *faultpkcs11.Library
}

// prepared is a request, ready to be sent, and what judges its answer.
type prepared struct {
	der       []byte
	asked, ca *x509.Certificate
}

// TestTokenOfASite is one fleet's: its ocspd meets every fault that a faulty library
// makes, its key is rolled over under load, it gets keys of a second kind and a
// second token, and its PIN is looked for where it must not be.
func TestTokenOfASite(t *testing.T) {
	if testing.Short() {
		t.Skip("a whole fleet is not started with -short")
	}
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	f, err := devfleet.Up(ctx, onGround(t).options(t, "token", 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			_ = f.WriteLogs(t.Output(), "", 12)
		}
		_ = f.Down(context.Background())
	})
	s := &tokenSite{Fleet: f, t: t, site: f.Sites[0], client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	for _, issuer := range f.Issuers {
		s.asks = append(s.asks, s.asking(issuer, issuer.Serials.Good[0], "-nonce"))
		var plain []*prepared
		for _, serial := range issuer.Serials.Good[2:7] {
			plain = append(plain, s.asking(issuer, serial, "-no_nonce"))
		}
		s.plain = append(s.plain, plain)
	}
	s.library, err = faultpkcs11.Build(t.TempDir(), s.site.Token.Module)
	if err != nil {
		t.Fatal(err)
	}
	sound := s.configure(func(text string) string { return strings.Replace(text, s.site.Token.Module, s.library.Module, 2) })
	t.Run("sessions lost", s.on((*tokenSite).sessionsLost))
	t.Run("token pulled out", s.on((*tokenSite).pulledOut))
	t.Run("library hangs", s.on((*tokenSite).hangs))
	t.Run("intermittent errors", s.on((*tokenSite).intermittent))
	t.Run("wrong signatures", s.on((*tokenSite).wrongSignatures))
	t.Run("library hangs for ever", s.on((*tokenSite).hangsForEver))
	// Of a sound token no request may be answered tryLater, however loaded the machine is.
	s.configure(func(string) string {
		return strings.Replace(sound, "\ntoken:\n", "\ntoken:\n    sign_timeout: 20s\n", 1)
	})
	t.Run("rollover and second kind", s.on((*tokenSite).rollover))
	t.Run("second token", s.on((*tokenSite).secondToken))
	t.Run("PIN nowhere", s.on((*tokenSite).pinNowhere))
}

func (s *tokenSite) on(step func(*tokenSite)) func(*testing.T) {
	return func(t *testing.T) {
		here := *s
		here.t = t
		step(&here)
	}
}

// configure edits ocspd's configuration, restarts it, and returns what it was.
func (s *tokenSite) configure(edit func(string) string) string {
	s.t.Helper()
	file := filepath.Join(s.Path(s.site.ConfigDir), "ocspd.yaml")
	before := contents(s.t, file)
	after := edit(before)
	if after == before {
		s.t.Fatalf("%s would stay as it is:\n%s", file, before)
	}
	put(s.t, file, after)
	if err := s.Kill(s.t.Context(), "site-a/ocspd"); err != nil {
		s.t.Fatal(err)
	}
	if err := s.Start(s.t.Context(), "site-a/ocspd"); err != nil {
		s.t.Fatal(err)
	}
	whole(s.t, s.Fleet, time.Minute, "site-a/ocspd")
	return before
}

// asking has openssl make a request.
func (s *tokenSite) asking(issuer devfleet.Issuer, serial, nonce string) *prepared {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "request")
	said(s.t, "openssl", "ocsp", "-issuer", s.Path(issuer.Certificate), "-serial", "0x"+serial, nonce, "-reqout", file)
	ca, err := s.IssuerCertificate(issuer)
	if err != nil {
		s.t.Fatal(err)
	}
	octets, err := hex.DecodeString(serial)
	if err != nil {
		s.t.Fatal(err)
	}
	return &prepared{der: []byte(contents(s.t, file)), asked: &x509.Certificate{SerialNumber: new(big.Int).SetBytes(octets)}, ca: ca}
}

// signed asks and verifies the answer.
func (s *tokenSite) signed(ctx context.Context, a *prepared) (*ocsp.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.site.URL, strings.NewReader(string(a.der)))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/ocsp-request")
	response, err := s.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	answer, err := ocsp.ParseResponseForCert(body, a.asked, a.ca)
	if err == nil && answer.Status != ocsp.Good {
		err = fmt.Errorf("it says %s", devfleet.StatusName(answer.Status))
	}
	return answer, err
}

// tryLater says whether an answer was the OCSP error tryLater.
func tryLater(err error) bool {
	var status ocsp.ResponseError
	return errors.As(err, &status) && status.Status == ocsp.TryLater
}

func (s *tokenSite) fault(f faultpkcs11.Faults) {
	s.t.Helper()
	if err := s.library.Set(f); err != nil {
		s.t.Fatal(err)
	}
}

// until polls for at most a minute.
func (s *tokenSite) until(what string, check func() error) time.Duration {
	s.t.Helper()
	began := time.Now()
	for {
		err := check()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > time.Minute {
			s.t.Fatalf("%s: not within a minute: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *tokenSite) signsAgain() time.Duration {
	s.t.Helper()
	took := s.until("signing for every issuer", func() error {
		for _, a := range s.asks {
			if _, err := s.signed(s.t.Context(), a); err != nil {
				return err
			}
		}
		return nil
	})
	whole(s.t, s.Fleet, 2*time.Minute, "site-a/ocspd")
	return took
}

// cached asks without a nonce for what was asked before.
func (s *tokenSite) cached() {
	s.t.Helper()
	for _, issuer := range s.Issuers {
		if answer, err := s.Ask(s.t.Context(), s.site, issuer, issuer.Serials.Good[1]); err != nil || answer.Status != ocsp.Good {
			s.t.Errorf("an answer of issuer %s that was signed before: %v", issuer.Name, err)
		}
	}
}

// H1, in a daemon under load: who asks waits for the new session, or is told
// tryLater; nobody gets a wrong answer or none.
func (s *tokenSite) sessionsLost() {
	s.signsAgain()
	load := s.load(s.t.Context())
	for n := 1; n <= 5; n++ {
		s.fault(faultpkcs11.Faults{Sessions: n})
		s.t.Logf("signing for every issuer %v after every session was lost", s.signsAgain().Round(time.Millisecond))
	}
	later, wrong := load.end(s.t, 500)
	if len(wrong) > 0 {
		s.t.Errorf("while sessions were lost: %d broken answers, the first: %v", len(wrong), wrong[0])
	}
	s.t.Logf("%d answers, of them %d tryLater", load.asked.Load(), later)
	s.fault(faultpkcs11.Faults{Sessions: 5})
}

// unsigned waits until the site refuses to sign and says so, then sees that it
// is quick about it and that what was signed before is served on.
func (s *tokenSite) unsigned(reason string) {
	s.t.Helper()
	s.until("tryLater", func() error {
		_, err := s.signed(s.t.Context(), s.asks[0])
		if !tryLater(err) {
			return fmt.Errorf("answered %v", err)
		}
		return nil
	})
	s.until("/readyz says so", func() error {
		err := s.Ready(s.t.Context(), "site-a/ocspd")
		if err == nil || !strings.Contains(err.Error(), reason) {
			return fmt.Errorf("%q is not in: %v", reason, err)
		}
		return nil
	})
	began := time.Now()
	for range 200 {
		if _, err := s.signed(s.t.Context(), s.asks[0]); !tryLater(err) {
			s.t.Fatalf("with the breaker open: %v", err)
		}
	}
	s.t.Logf("tryLater within %v, the mean of 200", (time.Since(began) / 200).Round(time.Microsecond))
	s.cached()
}

func (s *tokenSite) pulledOut() {
	s.cached() // signed now, if it was not before
	s.fault(faultpkcs11.Faults{Sessions: 5, Gone: true})
	s.unsigned("the token is unavailable")
	s.fault(faultpkcs11.Faults{Sessions: 6})
	s.t.Logf("signing %v after the token came back", s.signsAgain().Round(time.Millisecond))
}

func (s *tokenSite) hangs() {
	s.cached()
	s.fault(faultpkcs11.Faults{Sessions: 6, Hang: true})
	var all sync.WaitGroup
	for range 64 { // more than there are sessions, so that each of them hangs
		all.Go(func() {
			if _, err := s.signed(s.t.Context(), s.asks[0]); !tryLater(err) {
				s.t.Errorf("while the library hangs: %v", err)
			}
		})
	}
	all.Wait()
	s.unsigned("does not return")
	s.fault(faultpkcs11.Faults{Sessions: 6})
	s.t.Logf("signing %v after the calls returned", s.signsAgain().Round(time.Millisecond))
}

// hangsForEver has ocspd end by itself when nothing comes back any more, and
// serve once it was started again, as systemd does.
func (s *tokenSite) hangsForEver() {
	s.configure(func(text string) string { return text + "\nexit_when_stuck: 2s\n" })
	s.fault(faultpkcs11.Faults{Sessions: 6, Hang: true})
	for range 8 { // more than there are sessions, so that each of them hangs
		go func() { _, _ = s.signed(s.t.Context(), s.asks[0]) }()
	}
	ended := s.until("ocspd ends", func() error {
		if s.Signal("site-a/ocspd", 0) == nil {
			return errors.New("it runs")
		}
		return nil
	})
	s.fault(faultpkcs11.Faults{Sessions: 6})
	if err := s.Start(s.t.Context(), "site-a/ocspd"); err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("ocspd ended %v after the library began to hang, and signs again after %v", ended.Round(time.Millisecond), s.signsAgain().Round(time.Millisecond))
}

func (s *tokenSite) intermittent() {
	s.fault(faultpkcs11.Faults{Sessions: 6, Error: 0x30, ErrorEvery: 10}) // CKR_DEVICE_ERROR
	for range 200 {
		if _, err := s.signed(s.t.Context(), s.asks[1]); err != nil {
			s.t.Errorf("one signature in ten errs: %v", err)
		}
	}
	if n, err := s.library.Noted("error made"); err != nil || n < 20 {
		s.t.Errorf("%d errors were made, %v", n, err)
	}
	s.fault(faultpkcs11.Faults{Sessions: 6})
}

func (s *tokenSite) wrongSignatures() {
	s.fault(faultpkcs11.Faults{Sessions: 6, FlipEvery: 3})
	good := 0
	for i := range 60 {
		switch _, err := s.signed(s.t.Context(), s.asks[i%len(s.asks)]); {
		case err == nil:
			good++
		case !tryLater(err):
			s.t.Errorf("of a token that computes wrongly: %v", err)
		}
	}
	n, err := s.library.Noted("bit flipped")
	if err != nil || n == 0 {
		s.t.Errorf("%d wrong signatures were made, %v", n, err)
	}
	s.t.Logf("%d wrong signatures made; %d of 60 answers signed rightly, the rest tryLater", n, good)
	s.fault(faultpkcs11.Faults{Sessions: 6})
	s.signsAgain()
}
