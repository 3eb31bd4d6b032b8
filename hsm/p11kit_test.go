package hsm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"ocspfleet/hsm/tokenconf"
	"ocspfleet/integration/testkit/softhsm"
)

// p11kit returns the path of one of p11-kit's libraries.
func p11kit(t *testing.T, name string) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*/" + name) // the pattern is sound
	if fedora := "/usr/lib64/" + name; len(found) == 0 {
		found = append(found, fedora)
	}
	if _, err := os.Stat(found[0]); err != nil {
		t.Fatalf("%s is not there: apt install p11-kit p11-kit-modules", name)
	}
	return found[0]
}

// remote serves a token of SoftHSM by p11-kit's server, each connection in a process of
// its own, and returns what opens it by the client library. stop ends server and connections.
func remote(t *testing.T, soft *softhsm.SoftToken) (cfg Config, start, stop func()) {
	t.Helper()
	// The client keeps, for the life of the process, the address that it was first loaded with.
	socket := filepath.Join(os.TempDir(), fmt.Sprintf("ocspfleet-p11kit-%d", os.Getpid()))
	t.Setenv("P11_KIT_SERVER_ADDRESS", "unix:path="+socket)
	var server *exec.Cmd
	start = func() {
		server = exec.Command("p11-kit", "server", "--foreground", "--provider", soft.Module, "--name", socket, "pkcs11:")
		server.Env = append(os.Environ(), "SOFTHSM2_CONF="+soft.Conf)
		server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the server listens", func() error { _, err := os.Stat(socket); return err })
	}
	stop = func() {
		if server == nil {
			return
		}
		_ = syscall.Kill(-server.Process.Pid, syscall.SIGKILL)
		_ = server.Wait()
		_ = os.Remove(socket)
		server = nil
	}
	start()
	t.Cleanup(stop)
	uri := tokenconf.URI{Token: soft.Label, ModulePath: p11kit(t, "pkcs11/p11-kit-client.so"), PINSource: soft.PINFile}
	return Config{Config: tokenconf.Config{URI: uri.String(), SignTimeout: configOf(soft).SignTimeout}}, start, stop
}

// Each loading of p11-kit is an instance of its own: what crypto11 initialised and
// logged in to is not so for our second handle.
func TestKeyIsMadeAndDeletedThroughP11Kit(t *testing.T) {
	if testing.Short() {
		t.Skip("asks foreign programs")
	}
	for name, configure := range map[string]func(*testing.T, *softhsm.SoftToken) (cfg Config, start, stop func()){
		"remote": remote,
		"proxy": func(t *testing.T, soft *softhsm.SoftToken) (cfg Config, start, stop func()) {
			cfg = configOf(soft)
			cfg.Module = p11kit(t, "p11-kit-proxy.so") // libsofthsm2 tells p11-kit of itself
			return cfg, nil, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, start, stop := configure(t, newSoft(t))
			cfg.StateDir = t.TempDir()
			token := openSoft(t, cfg, true, noSelfTest)
			for _, kind := range []KeyKind{P256, RSA2048} {
				key := makeKey(t, token, kind, string(kind))
				if err := signOnce(key); err != nil {
					t.Errorf("%s: %v", kind, err)
				}
			}
			if _, err := token.GenerateKey(P256, "p256"); err == nil {
				t.Error("a label was taken twice")
			}
			keys, err := token.Keys()
			if err != nil || len(keys) != 2 {
				t.Fatalf("%v, %v", keys, err)
			}
			for _, key := range keys {
				if len(key.ID) != 20 {
					t.Errorf("%s keeps the random id %x", key.Label, key.ID)
				}
			}
			if err := token.DeleteKey(keys[0]); err != nil {
				t.Fatal(err)
			}
			if keys, err := token.Keys(); err != nil || len(keys) != 1 {
				t.Errorf("after deleting one: %v, %v", keys, err)
			}
			if notes, _ := os.ReadDir(cfg.StateDir); len(notes) != 0 {
				t.Errorf("a refusal of the PIN is noted: %v", notes)
			}
			if stop == nil {
				return
			}
			// The server ends, with every connection, and comes back.
			left, err := token.Signer(keys[1].Public)
			if err != nil {
				t.Fatal(err)
			}
			stop()
			hurried(token, 3*time.Second)
			if err := signOnce(left); err == nil {
				t.Error("signed without a server")
			}
			start()
			eventually(t, "it signs again", func() error { return signOnce(left) })
			makeKey(t, token, P256, "after")
		})
	}
}
