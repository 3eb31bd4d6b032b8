package hsm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"ocspfleet/hsm/tokenconf"
)

// A second library of another make: its token lives in a daemon's memory, does no
// elliptic curves, and sets every CKA_ID as it is told. The daemon's paths are fixed, so it
// runs among mounts of its own, which root of a user namespace may make.
func TestOpencryptokiMakesKeysAndSigns(t *testing.T) {
	if testing.Short() {
		t.Skip("asks foreign programs")
	}
	apart(t, childOf(t, "opencryptoki", t.TempDir()), 0, syscall.CLONE_NEWNS|syscall.CLONE_NEWIPC, "opencryptoki")
}

func opencryptokiChild(dir string) error {
	module, _ := filepath.Glob("/usr/lib/*/pkcs11/libopencryptoki.so")
	if len(module) == 0 {
		return errors.New("libopencryptoki.so is not there: apt install opencryptoki")
	}
	stop, err := slotDaemon(dir)
	if err != nil {
		return err
	}
	defer stop()
	slot, err := initOpencryptoki(module[0])
	if err != nil {
		return fmt.Errorf("initialising the token: %w", err)
	}
	pin := filepath.Join(dir, "pin")
	if err := os.WriteFile(pin, []byte("user-pin\n"), 0o600); err != nil {
		return err
	}
	uri := tokenconf.URI{Token: "site-a", ModulePath: module[0], PINSource: pin}
	token, err := Open(context.Background(), Config{Config: tokenconf.Config{URI: uri.String(), SignTimeout: 30 * time.Second}})
	if err != nil {
		return err
	}
	if _, err := token.GenerateKey(P256, "a"); !errors.Is(err, ErrKind) {
		return fmt.Errorf("a curve that it does not know: %w", err)
	}
	key, err := token.GenerateKey(RSA2048, "a")
	if err != nil {
		return err
	}
	if err := signOnce(key); err != nil {
		return err
	}
	if err := token.module.ctx.CloseAllSessions(slot); err != nil { // by which everybody is logged out, too
		return err
	}
	go func() { _ = token.Run(context.Background()) }() // ends with the token
	if err := signOnce(key); err != nil {
		return fmt.Errorf("after the loss of every session: %w", err)
	}
	odd, err := token.Oddities()
	if err != nil || len(odd) != 0 {
		return fmt.Errorf("odd: %v, %w", odd, err)
	}
	keys, err := token.Keys()
	if err != nil || len(keys) != 1 || len(keys[0].ID) != 20 {
		return fmt.Errorf("keys: %v, %w", keys, err)
	}
	if err := token.DeleteKey(keys[0]); err != nil {
		return err
	}
	if keys, err := token.Keys(); err != nil || len(keys) != 0 {
		return fmt.Errorf("keys after deleting it: %v, %w", keys, err)
	}
	return token.Close()
}

// slotDaemon runs opencryptoki's daemon on folders that only this process sees.
func slotDaemon(dir string) (stop func(), err error) {
	for _, path := range []string{"/var/lib/opencryptoki", "/run", "/dev/shm", "/var/log/opencryptoki"} {
		if err := syscall.Mount("none", path, "tmpfs", 0, ""); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("mounting on %s: %w", path, err)
		}
	}
	for _, path := range []string{"/run/lock/opencryptoki/swtok", "/var/lib/opencryptoki/swtok/TOK_OBJ"} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, err
		}
	}
	groups, err := os.ReadFile("/etc/group")
	if err != nil {
		return nil, err
	}
	for path, content := range map[string]string{
		"/etc/opencryptoki/opencryptoki.conf": "version opencryptoki-3.1\nslot 3\n{\nstdll = libpkcs11_sw.so\n}\n",
		// The one group of this namespace is the daemon's.
		"/etc/group": regexp.MustCompile(`(?m)^pkcs11:.*$`).ReplaceAllString(string(groups), "pkcs11:x:0:"),
	} {
		own := filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(own, []byte(content), 0o600); err != nil {
			return nil, err
		}
		if err := syscall.Mount(own, path, "", syscall.MS_BIND, ""); err != nil {
			return nil, fmt.Errorf("mounting on %s: %w", path, err)
		}
	}
	daemon := exec.Command("/usr/sbin/pkcsslotd", "-f")
	daemon.Stdout, daemon.Stderr = os.Stdout, os.Stderr
	if err := daemon.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat("/run/pkcsslotd.socket"); err == nil {
			return stop, nil
		} else if time.Now().After(deadline) {
			stop()
			return nil, fmt.Errorf("pkcsslotd: %w", err)
		}
	}
}

// initOpencryptoki makes a token: both PINs must be changed before it takes them.
func initOpencryptoki(module string) (slot uint, err error) {
	const makersPIN, officerPIN = "87654321", "so-a-pin"
	p := pkcs11.New(module)
	if p == nil {
		return 0, errors.New("it cannot be loaded")
	}
	defer p.Destroy()
	if err := p.Initialize(); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Finalize()) }()
	slots, err := p.GetSlotList(true)
	if err != nil || len(slots) != 1 {
		return 0, fmt.Errorf("slots %v: %w", slots, err)
	}
	slot = slots[0]
	if err := p.InitToken(slot, makersPIN, "site-a"+strings.Repeat(" ", 26)); err != nil {
		return 0, err
	}
	session, err := p.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return 0, err
	}
	for _, step := range []func() error{
		func() error { return p.Login(session, pkcs11.CKU_SO, makersPIN) },
		func() error { return p.SetPIN(session, makersPIN, officerPIN) },
		func() error { return p.InitPIN(session, "first-pi") },
		func() error { return p.Logout(session) },
		func() error { return p.Login(session, pkcs11.CKU_USER, "first-pi") },
		func() error { return p.SetPIN(session, "first-pi", "user-pin") },
		func() error { return p.Logout(session) },
		func() error { return p.CloseSession(session) },
	} {
		if err := step(); err != nil {
			return 0, err
		}
	}
	return slot, nil
}
