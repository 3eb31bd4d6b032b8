package wire_test

import (
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ocsp"

	"ocspfleet/signer/wire"
)

// vector is one line of testdata/requests.txt, which explains itself.
type vector struct {
	name                  string
	ours, xcrypto, judged string
	der                   []byte
	reason                string
}

func readVectors(tb testing.TB) []vector {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "requests.txt"))
	if err != nil {
		tb.Fatal(err)
	}
	var all []vector
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 5 && len(f) != 6 {
			tb.Fatalf("%d fields in %.60q", len(f), line)
		}
		der, err := hex.DecodeString(strings.TrimPrefix(f[4], "-"))
		if err != nil {
			tb.Fatalf("%s: %v", f[0], err)
		}
		v := vector{name: f[0], ours: f[1], xcrypto: f[2], judged: f[3], der: der}
		if len(f) == 6 {
			v.reason = f[5]
		}
		all = append(all, v)
	}
	return all
}

// Three parsers and one corpus: each says what the file says, and where they
// differ there is a reason.
func TestParsersDiffer(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing: apt-get install openssl")
	}
	verdict := func(err error) string {
		if err != nil {
			return "refuses"
		}
		return "reads"
	}
	dir := t.TempDir()
	seen := make(map[string]bool)
	for _, v := range readVectors(t) {
		if seen[v.name] {
			t.Errorf("%s stands twice", v.name)
		}
		seen[v.name] = true
		_, err := wire.ParseRequest(v.der)
		if got := verdict(err); got != v.ours || (err != nil && !errors.Is(err, wire.ErrMalformed)) {
			t.Errorf("%s: our parser %s: %v", v.name, got, err)
		}
		_, err = ocsp.ParseRequest(v.der)
		if got := verdict(err); got != v.xcrypto {
			t.Errorf("%s: x/crypto/ocsp %s: %v", v.name, got, err)
		}
		write(t, dir, "request", v.der)
		cmd := exec.CommandContext(t.Context(), "openssl", "ocsp", "-reqin", filepath.Join(dir, "request"), "-req_text")
		if out, err := cmd.CombinedOutput(); verdict(err) != v.judged {
			t.Errorf("%s: openssl %s: %s", v.name, verdict(err), out)
		}
		if differ := v.ours != v.xcrypto || v.ours != v.judged; differ != (v.reason != "") {
			t.Errorf("%s: the verdicts differ: %v, the reason given: %q", v.name, differ, v.reason)
		}
	}
	if len(seen) < 60 {
		t.Errorf("%d vectors only", len(seen))
	}
}
