package db_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ocspfleet/db"
)

// openssl names the same keys alike.
func TestKeyIDIsOpenSSLs(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []any{ec, rsaKey} {
		dir := t.TempDir()
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "key"), der, 0o600); err != nil {
			t.Fatal(err)
		}
		c := exec.Command("openssl", "req", "-x509", "-new", "-key", "key", "-keyform", "DER", "-subj", "/CN=x", "-addext", "subjectKeyIdentifier=hash", "-outform", "DER", "-out", "cert")
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("openssl: %v\n%s", err, out)
		}
		raw, err := os.ReadFile(filepath.Join(dir, "cert"))
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(raw)
		if err != nil {
			t.Fatal(err)
		}
		id, err := db.KeyID(cert.RawSubjectPublicKeyInfo)
		if got, want := hex.EncodeToString(id[:]), hex.EncodeToString(cert.SubjectKeyId); err != nil || got != want {
			t.Errorf("%T: %s, openssl says %s, %v", key, got, want, err)
		}
	}
	for _, bad := range []string{"", "30", "3000", "0500"} {
		raw, _ := hex.DecodeString(bad)
		if _, err := db.KeyID(raw); err == nil || !strings.Contains(err.Error(), "public key") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The serials that no certificate can have.
func TestSerialCheck(t *testing.T) {
	for text, want := range map[string]string{
		"": "no serial", "80": "negative", "ff01": "negative", "00": "", "01": "", "7f": "", "0080": "", "007f": "shortest form", "0001": "shortest form",
		strings.Repeat("7f", 20): "", strings.Repeat("7f", 21): "has 21 octets", strings.Repeat("7f", 70000): "has 70000 octets",
	} {
		raw, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Serial(raw).Check()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 200) {
			t.Errorf("%.50s: %v, want %q", text, err, want)
		}
	}
}
