package integration

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/integration/testkit/devfleet"

	"golang.org/x/crypto/ocsp"
)

// identities is the story of the certificates of one fleet of two sites.
type identities struct {
	*testing.T
	f      *devfleet.Fleet
	issuer devfleet.Issuer
	serial string // a good one
}

// TestTheLifeOfASitesCertificates: CRLs are served and believed; a key is replaced
// and a certificate renewed under load; a site is suspended and comes back, in the DNS,
// too, with a hold and without; policies change; a site is revoked while it is cut off,
// and stops when it is back.
func TestTheLifeOfASitesCertificates(t *testing.T) {
	if testing.Short() {
		t.Skip("a whole fleet is not started with -short")
	}
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	f, err := devfleet.Up(ctx, onGround(t).options(t, "identity", 2))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			_ = f.WriteLogs(t.Output(), "", 20)
		}
	}()
	s := &identities{t, f, f.Issuers[0], f.Issuers[0].Serials.Good[0]}
	kept := s.opensslChecksTheResponder()
	s.keyRollover()
	dns := s.named()
	s.suspension(dns)
	s.policyChange()
	s.withheld()
	s.revokedWhileCutOff(kept, dns)
}

func (s *identities) ctl(args ...string) string {
	s.Helper()
	out, err := s.f.Ctl(s.Context(), args...)
	if err != nil {
		s.Fatalf("%v\n%s", err, out)
	}
	return out
}

func (s *identities) openssl(want bool, args ...string) string {
	s.Helper()
	cmd := exec.CommandContext(s.Context(), "openssl", args...)
	cmd.Dir = s.f.Root()
	out, err := cmd.CombinedOutput()
	if (err == nil) != want {
		s.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// crl fetches a site's CRL and writes it with the trust anchors into a file for openssl.
func (s *identities) crl(site devfleet.Site) (list *x509.RevocationList, file string) {
	s.Helper()
	resp, err := http.Get(site.URL + "/crl/" + s.issuer.Name)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	der, err := io.ReadAll(resp.Body)
	if err != nil || resp.Header.Get("Content-Type") != "application/pkix-crl" {
		s.Fatalf("the CRL of %s: %v, %v", site.Name, resp.Header, err)
	}
	if list, err = x509.ParseRevocationList(der); err != nil {
		s.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
	for _, path := range append(slices.Clone(s.issuer.TrustAnchors), s.issuer.Certificate) {
		more, err := os.ReadFile(s.f.Path(path))
		if err != nil {
			s.Fatal(err)
		}
		text = append(text, more...)
	}
	file = filepath.Join(s.TempDir(), "anchors-and-crl.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		s.Fatal(err)
	}
	return list, file
}

// opensslChecksTheResponder has openssl check the responder's own certificate, as
// few clients do. It returns an answer of site-b.
func (s *identities) opensslChecksTheResponder() (kept string) {
	s.Helper()
	kept = filepath.Join(s.TempDir(), "site-b.resp")
	for _, site := range s.f.Sites {
		await(s.T, s.f, site, s.issuer, s.serial, ocsp.Good, patience)
		answer, err := s.f.Ask(s.Context(), site, s.issuer, s.serial)
		if err != nil {
			s.Fatal(err)
		}
		if want := []string{s.f.Sites[0].URL + "/crl/" + s.issuer.Name}; !slices.Equal(answer.Certificate.CRLDistributionPoints, want) {
			s.Errorf("%s: CRL distribution points %q, want %q", site.Name, answer.Certificate.CRLDistributionPoints, want)
		}
		list, anchors := s.crl(site)
		if len(list.RevokedCertificateEntries) != 0 || list.Number.BitLen() > 159 || time.UnixMilli(list.Number.Int64()).After(time.Now()) {
			s.Errorf("%s: CRL %s with %d entries", site.Name, list.Number, len(list.RevokedCertificateEntries))
		}
		out := s.openssl(true, "ocsp", "-no_nonce", "-crl_check", "-CAfile", anchors, "-issuer", s.issuer.Certificate, "-serial", "0x"+s.serial,
			"-url", site.URL, "-respout", kept)
		if !strings.Contains(out, "Response verify OK") || !strings.Contains(out, ": good") {
			s.Errorf("%s: openssl with CRL checking says:\n%s", site.Name, out)
		}
		certificate := filepath.Join(s.TempDir(), "responder.pem")
		if err := os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: answer.Certificate.Raw}), 0o600); err != nil {
			s.Fatal(err)
		}
		s.openssl(true, "verify", "-x509_strict", "-crl_check", "-purpose", "ocsphelper", "-CAfile", anchors, certificate)
	}
	return kept
}

// load asks a site all the time, by several connections, until stop is called,
// which returns how often it asked and what failed.
func (s *identities) load(site devfleet.Site) (stop func() (asked int64, failed []string)) {
	ctx, cancel := context.WithCancel(s.Context())
	var wait sync.WaitGroup
	var asked atomic.Int64
	var mu sync.Mutex
	var failed []string
	serials := s.issuer.Serials.Good
	for n := range 4 {
		wait.Go(func() {
			for i := n; ctx.Err() == nil; i++ {
				answer, err := s.f.Ask(context.WithoutCancel(ctx), site, s.issuer, serials[i%20])
				asked.Add(1)
				if err == nil && answer.Status != ocsp.Good {
					err = errorText(devfleet.StatusName(answer.Status))
				}
				if err != nil {
					mu.Lock()
					failed = append(failed, err.Error())
					mu.Unlock()
				}
			}
		})
	}
	return func() (int64, []string) {
		cancel()
		wait.Wait()
		return asked.Load(), failed
	}
}

type errorText string

func (e errorText) Error() string { return string(e) }

// awaitSigner waits until the site signs with a certificate for which is holds.
func (s *identities) awaitSigner(site devfleet.Site, what string, is func(*x509.Certificate) bool) *x509.Certificate {
	s.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		answer, err := s.f.Ask(s.Context(), site, s.issuer, s.serial)
		if err == nil && is(answer.Certificate) {
			return answer.Certificate
		}
	}
	s.Fatalf("%s does not sign with %s", site.Name, what)
	return nil
}

// patientSigner gives a site's signatures so long that none is given up because the
// machine is loaded.
func (s *identities) patientSigner(site devfleet.Site) {
	s.Helper()
	file, part := filepath.Join(s.f.Path(site.ConfigDir), "ocspd.yaml"), site.Name+"/ocspd"
	put(s.T, file, strings.Replace(contents(s.T, file), "\ntoken:\n", "\ntoken:\n    sign_timeout: 20s\n", 1))
	if err := s.f.Kill(s.Context(), part); err != nil {
		s.Fatal(err)
	}
	if err := s.f.Start(s.Context(), part); err != nil {
		s.Fatal(err)
	}
	whole(s.T, s.f, patience, part)
}

// keyRollover replaces site-a's key, and then renews its certificate, while clients
// ask all the time: not one of them may notice.
func (s *identities) keyRollover() {
	s.Helper()
	site := s.f.Sites[0]
	s.patientSigner(site)
	first := s.awaitSigner(site, "its first key", func(*x509.Certificate) bool { return true })
	stop := s.load(site)
	at := func(args ...string) {
		s.Helper()
		args = append([]string{"--config", s.f.Path(filepath.Join(site.ConfigDir, "ocspctl.yaml"))}, args...)
		if out, err := exec.CommandContext(s.Context(), s.f.Path(s.f.Ocspctl), args...).CombinedOutput(); err != nil {
			s.Errorf("%v\n%s", err, out)
		}
	}
	csr := filepath.Join(s.TempDir(), "next.csr")
	at("key", "generate", "--kind", "rsa2048", "--label", "next")
	at("key", "csr", site.Name, "--label", "next", "--out", csr)
	s.ctl("responder", "add", site.Name, "--csr", csr, "--url", site.URL, "--why", "a new key", "--apply")
	second := s.awaitSigner(site, "its new key", func(c *x509.Certificate) bool {
		return !bytes.Equal(c.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo)
	})
	time.Sleep(time.Second) // certificates count in seconds: of two of one second neither is the newer
	s.ctl("responder", "renew", site.Name, "--why", "a new certificate", "--apply")
	s.awaitSigner(site, "its renewed certificate", func(c *x509.Certificate) bool {
		return !c.Equal(second) && bytes.Equal(c.RawSubjectPublicKeyInfo, second.RawSubjectPublicKeyInfo)
	})
	asked, failed := stop()
	if len(failed) > 0 {
		s.Errorf("%d of %d answers failed: %s", len(failed), asked, failed[0])
	}
	s.Logf("key and certificate replaced under load: %d answers, %d failed", asked, len(failed))
	if asked < 20 {
		s.Errorf("%d answers are no load", asked)
	}
}

// suspension takes site-b out and back.
func (s *identities) suspension(dns *inDNS) {
	s.Helper()
	site := s.f.Sites[1]
	s.ctl("responder", "suspend", site.Name, "--why", "a look", "--apply")
	dns.want("127.0.0.2")
	if err := s.f.AwaitStopped(s.Context(), site, s.issuer, s.serial, patience); err != nil {
		s.Error(err)
	}
	s.ctl("responder", "restore", site.Name, "--why", "all is well", "--apply") // waits until it answers
	dns.want("127.0.0.1", "127.0.0.2")
	s.ctl("dns", "check")
	await(s.T, s.f, site, s.issuer, s.serial, ocsp.Good, 2*patience)
	whole(s.T, s.f, 2*patience)
}

// revokedWhileCutOff revokes site-b while its database is down, so that no row can
// tell it. Its access is closed; when it is back it learns just that, and stops. The
// command is killed in the middle, and run again.
func (s *identities) revokedWhileCutOff(kept string, dns *inDNS) {
	s.Helper()
	a, b := s.f.Sites[0], s.f.Sites[1]
	if err := s.f.Kill(s.Context(), b.Name+"/postgres"); err != nil {
		s.Fatal(err)
	}
	s.brokenOff(dns)
	out := s.ctl("responder", "revoke", b.Name, "--reason", "keyCompromise", "--why", "broken into", "--apply", "--output", "json")
	var told struct {
		Steps        []struct{ Step, Result string }
		Certificates []struct{ Issuer, Serial, Status string }
	}
	if err := json.Unmarshal([]byte(out), &told); err != nil {
		s.Fatalf("%v\n%s", err, out)
	}
	for _, c := range told.Certificates {
		if c.Status != "revoked" {
			s.Errorf("certificate %s is %s", c.Serial, c.Status)
		}
		if c.Issuer == s.issuer.Name {
			await(s.T, s.f, a, s.issuer, c.Serial, ocsp.Revoked, patience)
		}
	}
	s.leftTheDNS(dns)
	s.crlNames(a, kept)
	if err := s.f.Start(s.Context(), b.Name+"/postgres"); err != nil {
		s.Fatal(err)
	}
	if err := s.f.AwaitStopped(s.Context(), b, s.issuer, s.serial, 2*patience); err != nil {
		s.Error(err)
	}
	if out, err := s.f.Ctl(s.Context(), "responder", "restore", b.Name, "--apply"); err == nil || !strings.Contains(out+err.Error(), "revoked for ever") {
		s.Errorf("a revoked site was restored: %v\n%s", err, out)
	}
	await(s.T, s.f, a, s.issuer, s.serial, ocsp.Good, patience)
}

// crlNames waits for the CRL with site-b's certificate, with which openssl refuses
// the answer that it took before.
func (s *identities) crlNames(site devfleet.Site, kept string) {
	s.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		list, anchors := s.crl(site)
		if len(list.RevokedCertificateEntries) > 0 {
			out := s.openssl(false, "ocsp", "-no_nonce", "-crl_check", "-CAfile", anchors, "-issuer", s.issuer.Certificate, "-serial", "0x"+s.serial, "-respin", kept)
			if !strings.Contains(out, "certificate revoked") {
				s.Errorf("openssl with CRL checking says:\n%s", out)
			}
			return
		}
		if time.Now().After(end) {
			s.Fatalf("CRL %s of %s names nobody", list.Number, site.Name)
		}
	}
}
