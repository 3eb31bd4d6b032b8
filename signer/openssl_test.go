package signer

import (
	"crypto"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/signertest"
)

// openssl is a foreign judge: it reads our answers, builds the chain to the CA
// through the enclosed certificate, and checks nonce, CertID and times.
func TestOpenSSLVerifies(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing: apt-get install openssl")
	}
	for name, keys := range map[string]crypto.Signer{"p256": signertest.NewKey(t), "rsa": signertest.RSAKey()} {
		t.Run(name, func(t *testing.T) {
			now := time.Now().UTC()
			r := newRigWith(t, keys, signertest.NewKey(t))
			r.SetTime(now) // openssl has no injected clock
			r.Copy.Heartbeat(now)
			r.setCerts(r.CA.Delegate(t, signertest.OwnSerial, r.Key.Public(), now.Add(-2*time.Hour), now.Add(24*time.Hour)))
			r.Copy.Change(now, 1, signertest.Serial(signertest.RevokedSerial), r.RevokedRow(now.Add(-time.Hour).Truncate(time.Second), db.ReasonSuperseded))
			r.refreshed()
			dir := t.TempDir()
			ca := filepath.Join(dir, "ca.pem")
			write(t, ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.CA.Cert.Raw}))
			for _, nonce := range []string{"-nonce", "-no_nonce"} {
				for hash, want := range map[string]string{"-sha1": "good", "-sha256": "revoked", "-sha512": "unknown"} {
					serial := map[string]*big.Int{"good": signertest.GoodSerial, "revoked": signertest.RevokedSerial, "unknown": signertest.AbsentSerial}[want]
					reqFile, respFile := filepath.Join(dir, "req.der"), filepath.Join(dir, "resp.der")
					openssl(t, "ocsp", hash, "-issuer", ca, "-serial", "0x"+serial.Text(16), nonce, "-reqout", reqFile)
					request, err := os.ReadFile(reqFile)
					if err != nil {
						t.Fatal(err)
					}
					write(t, respFile, r.Answer(t.Context(), request).Body)
					out := openssl(t, "ocsp", "-issuer", ca, "-CAfile", ca, "-reqin", reqFile, "-respin", respFile,
						"-resp_text", "-validity_period", "300")
					if !strings.Contains(out, "Response verify OK") || !strings.Contains(out, "Cert Status: "+want) ||
						!strings.Contains(out, "Serial Number: "+strings.ToUpper(serial.Text(16))) || strings.Contains(out, "WARNING") {
						t.Errorf("%s %s: want %s, openssl says\n%s", hash, nonce, want, out)
					}
				}
			}
		})
	}
}

func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func openssl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
