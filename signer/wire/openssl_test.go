package wire_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocspfleet/signer/wire"
)

// openssl runs the command line tool in dir and returns what it says. The
// tool is the client that most people have; without it there is no verdict.
func openssl(t *testing.T, dir string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openssl", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v (apt package openssl)\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func write(t *testing.T, dir, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// pkiDir holds ca.pem, leaf.pem and the P-256 responder's responder.pem and
// responder.key.
func pkiDir(t *testing.T) string {
	t.Helper()
	dir, p := t.TempDir(), testPKI()
	for name, cert := range map[string]*x509.Certificate{"ca.pem": p.ca, "leaf.pem": p.leaf, "responder.pem": p.signers["P-256"].cert} {
		write(t, dir, name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	}
	key, err := x509.MarshalPKCS8PrivateKey(p.signers["P-256"].key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "responder.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	return dir
}

// opensslRequest lets openssl write a request.
func opensslRequest(t *testing.T, dir string, args ...string) wire.Request {
	t.Helper()
	openssl(t, dir, append([]string{"ocsp", "-reqout", "req.der", "-issuer", "ca.pem"}, args...)...)
	der, err := os.ReadFile(filepath.Join(dir, "req.der"))
	if err != nil {
		t.Fatal(err)
	}
	return mustParse(t, der)
}

func TestRequestsOfOpenSSL(t *testing.T) {
	dir := pkiDir(t)
	for name, c := range map[string]struct {
		args   []string
		hashes []crypto.Hash
		nonce  int
	}{
		"default":       {[]string{"-no_nonce", "-cert", "leaf.pem"}, []crypto.Hash{crypto.SHA1}, 0},
		"nonce":         {[]string{"-nonce", "-cert", "leaf.pem"}, []crypto.Hash{crypto.SHA1}, 16},
		"several":       {[]string{"-no_nonce", "-sha256", "-cert", "leaf.pem", "-sha384", "-serial", "0x7fff", "-sha512", "-serial", "0", "-sha1", "-serial", "-5"}, []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA1}, 0},
		"unknown hash":  {[]string{"-no_nonce", "-md5", "-cert", "leaf.pem"}, []crypto.Hash{0}, 0},
		"signed":        {[]string{"-nonce", "-sha256", "-cert", "leaf.pem", "-signer", "responder.pem", "-signkey", "responder.key"}, []crypto.Hash{crypto.SHA256}, 16},
		"signed, bare":  {[]string{"-no_nonce", "-sha256", "-cert", "leaf.pem", "-signer", "responder.pem", "-signkey", "responder.key", "-no_certs"}, []crypto.Hash{crypto.SHA256}, 0},
		"with CA certs": {[]string{"-no_nonce", "-sha256", "-cert", "leaf.pem", "-signer", "responder.pem", "-signkey", "responder.key", "-sign_other", "ca.pem"}, []crypto.Hash{crypto.SHA256}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			req := opensslRequest(t, dir, c.args...)
			if len(req.CertIDs) != len(c.hashes) || len(req.Nonce) != c.nonce {
				t.Fatalf("got %d CertIDs, nonce %x", len(req.CertIDs), req.Nonce)
			}
			for i, hash := range c.hashes {
				if req.CertIDs[i].Hash != hash {
					t.Errorf("CertID %d: got %v, want %v", i, req.CertIDs[i].Hash, hash)
				}
			}
			if serial := req.CertIDs[0].Serial; !bytes.Equal(serial, append([]byte{0}, testPKI().leaf.SerialNumber.Bytes()...)) {
				t.Errorf("got serial %x", serial)
			}
		})
	}
	several := opensslRequest(t, dir, "-no_nonce", "-serial", "0x7fff", "-serial", "0x80", "-serial", "0", "-serial", "-5")
	for i, want := range [][]byte{{0x7f, 0xff}, {0, 0x80}, {0}, {0xfb}} {
		if got := several.CertIDs[i].Serial; !bytes.Equal(got, want) {
			t.Errorf("serial %d: got %x, want %x", i, got, want)
		}
	}
}

// openssl asks for three certificates with a nonce and reads the whole answer:
// signature, delegation, nonce, each status.
func TestAnswersReadByOpenSSL(t *testing.T) {
	now := time.Now()
	for name, s := range testPKI().signers {
		t.Run(name, func(t *testing.T) {
			dir := pkiDir(t)
			req := opensslRequest(t, dir, "-nonce", "-sha256", "-cert", "leaf.pem", "-serial", "0x1001", "-sha1", "-serial", "0x1002", "-serial", "0x1003")
			data := wire.ResponseData{ProducedAt: now, Nonce: req.Nonce, ExtendedRevoke: true}
			for i, status := range []wire.CertStatus{wire.StatusGood, wire.StatusRevoked, wire.StatusRevoked, wire.StatusUnknown} {
				one := wire.SingleResponse{
					CertID: req.CertIDs[i].Raw, Status: status, RevokedAt: time.Unix(0, 0), Reason: 6,
					ThisUpdate: now.Add(-5 * time.Minute), NextUpdate: now.Add(time.Hour),
				}
				if i == 1 {
					one.RevokedAt, one.Reason, one.ArchiveCutoff = revokedAt, -1, time.Date(2019, 5, 6, 7, 8, 9, 0, time.UTC)
				}
				data.Responses = append(data.Responses, one)
			}
			write(t, dir, "resp.der", sign(t, s, data))
			// -no_nonce: add none to the one that req.der has, which is compared.
			out := openssl(t, dir, "ocsp", "-no_nonce", "-reqin", "req.der", "-respin", "resp.der", "-issuer", "ca.pem", "-CAfile", "ca.pem", "-resp_text",
				"-sha256", "-cert", "leaf.pem", "-serial", "0x1001", "-sha1", "-serial", "0x1002", "-serial", "0x1003")
			for _, want := range []string{
				"Response verify OK", "leaf.pem: good", "0x1001: revoked", "0x1002: revoked", "0x1003: unknown",
				"Revocation Time: Feb 28 23:59:59 2025 GMT", "Revocation Time: Jan  1 00:00:00 1970 GMT", "Reason: certificateHold",
				"OCSP Archive Cutoff: ", "May  6 07:08:09 2019 GMT",
				"Responder Id: ", "OCSP Nonce:", "Version: 1 (0x0)", " valid:", // openssl's name for extended-revoke
			} {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in the output", want)
				}
			}
			for _, bad := range []string{"WARNING", "rror", "unspecified"} {
				if strings.Contains(out, bad) {
					t.Errorf("%q is in the output", bad)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
			openssl(t, dir, "asn1parse", "-inform", "DER", "-in", "resp.der")
		})
	}
}

func TestErrorAnswersReadByOpenSSL(t *testing.T) {
	dir := t.TempDir()
	for status, want := range map[wire.ErrorStatus]string{
		wire.MalformedRequest: "malformedrequest (1)", wire.InternalError: "internalerror (2)", wire.TryLater: "trylater (3)",
		wire.SigRequired: "sigrequired (5)", wire.Unauthorized: "unauthorized (6)",
	} {
		write(t, dir, "resp.der", wire.ErrorResponse(status))
		cmd := exec.CommandContext(t.Context(), "openssl", "ocsp", "-respin", filepath.Join(dir, "resp.der"), "-noverify")
		out, _ := cmd.CombinedOutput() // versions differ in the exit code of an error answer
		if !strings.Contains(string(out), "Responder Error: "+want) {
			t.Errorf("%d: got %s", status, out)
		}
	}
}
