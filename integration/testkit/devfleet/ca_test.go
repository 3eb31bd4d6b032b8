package devfleet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ocspfleet/db"
)

// makeCA makes a CA without a fleet and returns how fleet.json would tell of it.
func makeCA(t *testing.T, certs int) (*authority, []Issuer) {
	t.Helper()
	f := &Fleet{opts: Options{Dir: t.TempDir(), Root: "/", BasePort: 18000}}
	a := f.opts.authority()
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := a.make(t.Context(), certs); err != nil {
		t.Fatal(err)
	}
	var issuers []Issuer
	for _, i := range a.issuers {
		described, err := f.describe(a, i)
		if err != nil {
			t.Fatal(err)
		}
		issuers = append(issuers, described)
	}
	return a, issuers
}

func TestCAKeepsTheContractOfFleetJSON(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a whole CA")
	}
	a, issuers := makeCA(t, 300)
	lines := 0
	for n, issuer := range issuers {
		for _, file := range []string{"index.txt", "generated.txt"} {
			text, err := os.ReadFile(a.issuers[n].file(file))
			if err != nil {
				t.Fatal(err)
			}
			lines += strings.Count(string(text), "\n")
		}
		checkSerials(t, issuer)
		root := filepath.Join("/", issuer.TrustAnchors[0])
		for _, leaf := range []string{issuer.Leaf.Good.Certificate, issuer.Leaf.Revoked.Certificate} {
			out, err := exec.Command("openssl", "verify", "-CAfile", root, "-untrusted", filepath.Join("/", issuer.Chain[0]),
				"-purpose", "sslserver", "-verify_hostname", "localhost", filepath.Join("/", leaf)).CombinedOutput()
			if err != nil {
				t.Errorf("issuer %s: openssl verify: %v: %s", issuer.Name, err, out)
			}
			certificate, err := ReadCertificate(filepath.Join("/", leaf))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(certificate.OCSPServer, []string{"http://127.0.0.1:18010"}) {
				t.Errorf("issuer %s: AIA names %q", issuer.Name, certificate.OCSPServer)
			}
		}
		anchor, err := ReadCertificate(root)
		if err != nil {
			t.Fatal(err)
		}
		if err := anchor.CheckSignatureFrom(anchor); err != nil {
			t.Errorf("the trust anchor is not self-signed: %v", err)
		}
	}
	if lines != 300 {
		t.Errorf("%d certificates made, want 300", lines)
	}
	if got := issuers[0].Name + " " + issuers[1].Name; got != "rsa ecdsa" {
		t.Errorf("issuers are %s", got)
	}
	shared := 0
	for _, r := range issuers[1].Serials.Revoked {
		if slices.Contains(issuers[0].Serials.Good, r.Serial) {
			shared++
		}
	}
	if shared != 1 {
		t.Errorf("%d serials are good at the first issuer and revoked at the second, want 1", shared)
	}
}

func checkSerials(t *testing.T, issuer Issuer) {
	t.Helper()
	s := issuer.Serials
	if len(s.Good) < 20 || len(s.Revoked) < 10 || len(s.NeverIssued) != 10 {
		t.Errorf("issuer %s: %d good, %d revoked, %d never issued", issuer.Name, len(s.Good), len(s.Revoked), len(s.NeverIssued))
	}
	has := func(what string, ok func(string) bool) {
		if !slices.ContainsFunc(s.Good, ok) {
			t.Errorf("issuer %s: no good serial with %s", issuer.Name, what)
		}
	}
	has("20 octets", func(h string) bool { return len(h) == 40 })
	has("the top bit set", func(h string) bool { return strings.HasPrefix(h, "00") && h[2] >= '8' })
	reasons, seen := map[string]int{}, map[string]bool{}
	for _, r := range s.Revoked {
		if r.Reason == nil {
			reasons["none"]++
		} else {
			reasons[*r.Reason]++
		}
		seen[r.Serial] = true
	}
	if reasons["none"] == 0 || reasons["certificateHold"] != 1 || len(reasons) < 5 {
		t.Errorf("issuer %s: reasons are %v", issuer.Name, reasons)
	}
	for name := range reasons {
		if _, err := db.ParseReason(name); name != "none" && err != nil {
			t.Errorf("issuer %s: %v", issuer.Name, err)
		}
	}
	for _, h := range slices.Concat(s.Good, s.NeverIssued) {
		if seen[h] {
			t.Errorf("issuer %s: serial %s is in the lists twice", issuer.Name, h)
		}
		seen[h] = true
		if serial, err := db.ParseSerial(h); err != nil || serial.String() != h {
			t.Errorf("issuer %s: serial %s is not the hex of DER content octets (%v, %v)", issuer.Name, h, serial, err)
		}
	}
}

func TestCAMakesNoFewerThanOpenSSLMustIssue(t *testing.T) {
	w := wish(newSerial(16), false)
	if w.issued() < 40 {
		t.Errorf("openssl issues %d certificates, want 40 at least", w.issued())
	}
	i := &issuing{dir: t.TempDir(), serial: w}
	if err := i.generate(0); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(i.file("generated.txt")); err != nil || info.Size() != 0 {
		t.Errorf("nothing to generate, yet %v, %v", info.Size(), err)
	}
}

func TestReadIndexRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, line := range []string{
		"R\t301231235959Z\t260101000000Z,becauseISaidSo\t01\tunknown\t/CN=x",
		"R\t301231235959Z\tyesterday\t01\tunknown\t/CN=x",
		"V\t301231235959Z\t\tXYZ\tunknown\t/CN=x",
		"V\t301231235959Z\t\t01",
	} {
		path := filepath.Join(t.TempDir(), "index.txt")
		if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := readIndex(path, 9, 9, nil); err == nil {
			t.Errorf("%q was read without complaint", fmt.Sprint(line))
		}
	}
}
