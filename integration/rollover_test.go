package integration

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// rolloverRequests are few by default: each answer is verified, and -race makes
// that ten times dearer.
var rolloverRequests = flag.Int64("rollover.requests", 2000, "how many requests at least TestTokenOfASite makes while keys come")

// load asks from all sides until it is ended.
type load struct {
	stop    context.CancelFunc
	done    sync.WaitGroup
	asked   atomic.Int64
	later   atomic.Int64
	mu      sync.Mutex
	wrong   []error
	signers map[string]int // by issuer and kind of the signer's key
}

// load starts eight clients: every other request must be signed anew.
func (s *tokenSite) load(ctx context.Context) *load {
	ctx, stop := context.WithCancel(ctx)
	l := &load{stop: stop, signers: map[string]int{}}
	for worker := range 8 {
		l.done.Go(func() {
			for n := worker; ctx.Err() == nil; n++ {
				i := n % len(s.Issuers)
				issuer := s.Issuers[i]
				var answer *ocsp.Response
				var err error
				if n/len(s.Issuers)%2 == 0 {
					answer, err = s.signed(context.WithoutCancel(ctx), s.asks[i])
				} else {
					answer, err = s.signed(context.WithoutCancel(ctx), s.plain[i][n%len(s.plain[i])])
				}
				l.asked.Add(1)
				switch {
				case tryLater(err):
					l.later.Add(1)
				case err != nil:
					l.mu.Lock()
					l.wrong = append(l.wrong, err)
					l.mu.Unlock()
				default:
					l.mu.Lock()
					l.signers[issuer.Name+" "+fingerprint(answer.Certificate)]++
					l.mu.Unlock()
				}
			}
		})
	}
	return l
}

func fingerprint(c *x509.Certificate) string {
	if c == nil {
		return "none"
	}
	h := crypto.SHA256.New()
	h.Write(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(h.Sum(nil))
}

// end waits until so many were asked and ends the load.
func (l *load) end(t *testing.T, least int64) (later int64, wrong []error) {
	t.Helper()
	for limit := time.Now().Add(2 * time.Minute); l.asked.Load() < least; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Errorf("only %d requests within 2 minutes", l.asked.Load())
			break
		}
	}
	l.stop()
	l.done.Wait()
	return l.later.Load(), l.wrong
}

// ctl runs ocspctl of the site.
func (s *tokenSite) ctl(args ...string) string {
	s.t.Helper()
	config := filepath.Join(s.Path(s.site.ConfigDir), "ocspctl.yaml")
	return said(s.t, s.Path(s.Ocspctl), append([]string{"--config", config}, args...)...)
}

// enrol makes a key in the token that a configuration names, has it certified,
// and returns the fingerprint of the key.
func (s *tokenSite) enrol(config, kind, label string) string {
	s.t.Helper()
	csr := filepath.Join(s.t.TempDir(), label+".csr")
	said(s.t, s.Path(s.Ocspctl), "--config", config, "key", "generate", "--kind", kind, "--label", label)
	var made struct {
		Key struct{ Fingerprint string }
	}
	if err := json.Unmarshal([]byte(said(s.t, s.Path(s.Ocspctl), "--config", config, "key", "csr", "site-a", "--label", label, "--out", csr, "--output", "json")), &made); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.Ctl(s.t.Context(), "responder", "add", "site-a", "--csr", csr, "--url", s.site.URL, "--apply"); err != nil {
		s.t.Fatal(err)
	}
	return made.Key.Fingerprint
}

// signsWith waits until the site signs for an issuer with a key.
func (s *tokenSite) signsWith(issuer int, key string) time.Duration {
	s.t.Helper()
	return s.until(fmt.Sprintf("signing for issuer %s with the new key", s.Issuers[issuer].Name), func() error {
		answer, err := s.signed(s.t.Context(), s.asks[issuer])
		if err != nil {
			return err
		}
		if got := fingerprint(answer.Certificate); got != key {
			return fmt.Errorf("it signs with %s, want %s", got, key)
		}
		return nil
	})
}

// New keys, of one kind and then of the other, each with certificates of both issuers:
// no request fails, and each issuer's answers are signed with the key of its CA's kind.
func (s *tokenSite) rollover() {
	config := filepath.Join(s.Path(s.site.ConfigDir), "ocspctl.yaml")
	load := s.load(s.t.Context())
	rsa := s.enrol(config, "rsa2048", "ocsp-site-a-rsa")
	s.t.Logf("the new RSA key signs %v after it was certified", s.signsWith(0, rsa).Round(time.Millisecond))
	rolled := s.enrol(config, "p256", "ocsp-site-a-next")
	s.t.Logf("the new P-256 key signs %v after it was certified", s.signsWith(1, rolled).Round(time.Millisecond))
	s.signsWith(0, rsa)
	later, wrong := load.end(s.t, *rolloverRequests)
	if later != 0 || len(wrong) != 0 {
		s.t.Errorf("%d of %d requests: tryLater; %d failed, the first: %v", later, load.asked.Load(), len(wrong), append(wrong, nil)[0])
	}
	s.t.Logf("%d requests, none failed, while two keys came; answers by issuer and key: %v", load.asked.Load(), load.signers)
	whole(s.t, s.Fleet, time.Minute, "site-a/ocspd")

	list := s.ctl("key", "list")
	for label, issuers := range map[string]int{"ocsp-site-a ": 1, "ocsp-site-a-rsa2048 ": 1, "ocsp-site-a-rsa ": len(s.Issuers), "ocsp-site-a-next ": len(s.Issuers)} {
		found := false
		for line := range strings.Lines(list) {
			found = found || strings.HasPrefix(line, label) && strings.Count(line, " good until ") == issuers
		}
		if !found {
			s.t.Errorf("key list does not show %q with the certificates of its issuers:\n%s", label, list)
		}
	}
	out, _ := says(s.t, s.Path(s.Ocspctl), "--config", config, "doctor", "--ocspd-config", filepath.Join(s.Path(s.site.ConfigDir), "ocspd.yaml"))
	if !strings.Contains(out, "key ocsp-site-a-rsa") || !strings.Contains(out, "rsa2048: has certificates of ecdsa, rsa") {
		s.t.Errorf("doctor does not tell the keys:\n%s", out)
	}
}

// A second token in the same process: its key signs as soon as it is certified,
// while the first token's keys are still there.
func (s *tokenSite) secondToken() {
	const label, pin = "site-a-new", "4077-second-pin"
	dir := s.t.TempDir()
	said(s.t, "env", "SOFTHSM2_CONF="+s.site.Token.SoftHSM2Conf, "softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", pin, "--pin", pin)
	pinFile := put(s.t, filepath.Join(dir, "pin"), pin+"\n")
	token := fmt.Sprintf("{uri: 'pkcs11:token=%s', module: %q, pin_file: %q, softhsm2_conf: %q}", label, s.site.Token.Module, pinFile, s.site.Token.SoftHSM2Conf)
	config := put(s.t, filepath.Join(dir, "ocspctl.yaml"), fmt.Sprintf("token: %s\nstate_dir: %q\n", token, filepath.Join(dir, "state")))
	before := s.configure(func(text string) string {
		return text + "more_tokens: [" + strings.Replace(token, "{", "{sign_timeout: 20s, ", 1) + "]\n"
	})
	defer s.configure(func(string) string { return before })
	load := s.load(s.t.Context())
	key := s.enrol(config, "p384", "ocsp-site-a-p384")
	s.t.Logf("the key of the second token signs %v after it was certified", s.signsWith(1, key).Round(time.Millisecond))
	later, wrong := load.end(s.t, 1000)
	if later != 0 || len(wrong) != 0 {
		s.t.Errorf("%d of %d requests: tryLater; %d failed, the first: %v", later, load.asked.Load(), len(wrong), append(wrong, nil)[0])
	}
	whole(s.t, s.Fleet, time.Minute, "site-a/ocspd")
	out, _ := says(s.t, s.Path(s.Ocspctl), "--config", filepath.Join(s.Path(s.site.ConfigDir), "ocspctl.yaml"), "doctor", "--ocspd-config",
		filepath.Join(s.Path(s.site.ConfigDir), "ocspd.yaml"))
	if !strings.Contains(out, "token site-a-new") || !strings.Contains(out, "key ocsp-site-a-p384") {
		s.t.Errorf("doctor does not tell of the second token:\n%s", out)
	}
}
