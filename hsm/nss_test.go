package hsm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"ocspfleet/hsm/tokenconf"
)

// NSS's softokn is a third make: it wants a text in a field of C_Initialize that the
// standard reserves, which p11-kit's proxy gives it by its configuration. The proxy reads
// that once in a process, and root's not at all: so this one is somebody else's, in a
// namespace of its own.
func TestNSSMakesKeysAndSigns(t *testing.T) {
	if testing.Short() {
		t.Skip("asks foreign programs")
	}
	home := t.TempDir()
	child := childOf(t, "nss", p11kit(t, "p11-kit-proxy.so"), "HOME="+home, "XDG_CONFIG_HOME="+filepath.Join(home, ".config"))
	apart(t, child, 1000, 0, "libnss3 libnss3-tools p11-kit-modules")
}

func nssChild(proxy string) error {
	module, _ := filepath.Glob("/usr/lib/*/libsoftokn3.so")
	if len(module) == 0 {
		return errors.New("libsoftokn3.so is not there: apt install libnss3")
	}
	home := os.Getenv("HOME")
	pin, folder := filepath.Join(home, "pin"), filepath.Join(home, "nssdb")
	for name, content := range map[string]string{
		pin: testPIN + "\n",
		filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "pkcs11/modules/nss.module"): fmt.Sprintf("module: %s\nx-init-reserved: configdir='sql:%s' certPrefix='' keyPrefix='' dbTokenDescription='site-a'\n", module[0], folder),
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			return err
		}
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	if out, err := exec.Command("certutil", "-N", "-d", "sql:"+folder, "-f", pin).CombinedOutput(); err != nil {
		return fmt.Errorf("certutil: %w: %s", err, out)
	}
	uri := tokenconf.URI{Token: "site-a", ModulePath: proxy, PINSource: pin}
	token, err := Open(context.Background(), Config{Config: tokenconf.Config{URI: uri.String(), SignTimeout: 30 * time.Second, StateDir: home}})
	if err != nil {
		return err
	}
	for _, kind := range []KeyKind{P256, P384, RSA2048} {
		key, err := token.GenerateKey(kind, string(kind))
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		if err := signOnce(key); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	odd, err := token.Oddities()
	if err != nil || len(odd) != 0 {
		return fmt.Errorf("odd: %v, %w", odd, err)
	}
	keys, err := token.Keys()
	if err != nil || len(keys) != 3 {
		return fmt.Errorf("keys: %v, %w", keys, err)
	}
	if err := token.DeleteKey(keys[0]); err != nil {
		return err
	}
	if keys, err := token.Keys(); err != nil || len(keys) != 2 {
		return fmt.Errorf("keys after deleting one: %v, %w", keys, err)
	}
	return token.Close()
}
