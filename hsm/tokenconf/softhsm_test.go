package tokenconf

import (
	"path/filepath"
	"testing"

	"ocspfleet/integration/testkit/softhsm"
)

// The folder is found where SoftHSM itself finds it, and not looked for with any
// other library.
func TestTokenFolderIsTheOneOfSoftHSM(t *testing.T) {
	soft, err := softhsm.New(t.TempDir(), "site-a", "4711")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", soft.Conf)
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"named":         {Config{Module: "/usr/lib/shim.so", SoftHSM2Conf: soft.Conf}, soft.Tokens()},
		"environment":   {Config{Module: soft.Module}, soft.Tokens()},
		"other library": {Config{Module: "/usr/lib/libcs_pkcs11_R3.so"}, ""},
		"no such file":  {Config{SoftHSM2Conf: "/nowhere/softhsm2.conf"}, ""},
	} {
		if folder, err := (Settings{Config: c.cfg}).probe(); err != nil || folder != c.want {
			t.Errorf("%s: %q, %v; want %q", name, folder, err, c.want)
		}
	}
	if left, err := filepath.Glob(filepath.Join(soft.Tokens(), ".space-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
