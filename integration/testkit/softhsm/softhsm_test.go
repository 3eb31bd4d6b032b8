package softhsm_test

import (
	"os"
	"strings"
	"testing"

	"ocspfleet/hsm"
	"ocspfleet/hsm/tokenconf"
	"ocspfleet/integration/testkit/softhsm"
)

func TestNewMakesATokenThatOpens(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	before := os.Getenv("SOFTHSM2_CONF")
	soft, err := softhsm.New("relative", "demo", "1234-demo")
	if err != nil {
		t.Fatal(err)
	}
	if after := os.Getenv("SOFTHSM2_CONF"); after != before {
		t.Errorf("SOFTHSM2_CONF changed from %q to %q", before, after)
	}
	for _, path := range []string{soft.Dir, soft.Conf, soft.PINFile, soft.Module} {
		if !strings.HasPrefix(path, "/") {
			t.Errorf("%s is not absolute", path)
		}
	}
	again, err := softhsm.Existing("relative", "demo")
	if err != nil || *again != *soft {
		t.Errorf("Existing: %+v, %v; want %+v", again, err, soft)
	}
	token, err := hsm.Open(t.Context(), hsm.Config{Config: tokenconf.Config{URI: soft.URI(), SoftHSM2Conf: soft.Conf}})
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := softhsm.New("relative", "demo", "1234-demo"); err == nil {
		t.Error("made a second token over the first")
	}
}
