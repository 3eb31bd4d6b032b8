package boot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ocspfleet/cmd/internal/boot"
)

var program = boot.Program{
	Name: "shopd", Summary: "Keeps a shop.", Example: "shopd --config /etc/shop.yaml", Config: "/etc/shop/shopd.yaml",
	NoRestart: errRobbed,
}

var errRobbed = errors.New("the till is empty")

// runMain returns exit code, standard output and standard error.
func runMain(t *testing.T, run func(context.Context, boot.Env) error, args ...string) (int, string, string) {
	t.Helper()
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	var stdout bytes.Buffer
	code := boot.Main(program, args, &stdout, stderr, run)
	said, err := os.ReadFile(stderr.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, stdout.String(), string(said)
}

func TestMainFlags(t *testing.T) {
	fine := func(_ context.Context, env boot.Env) error {
		switch env.Config {
		case "robbed.yaml":
			return fmt.Errorf("opening: %w", errRobbed)
		case "bad.yaml":
			return errors.New("bad.yaml:1: nonsense")
		}
		return nil
	}
	for _, test := range []struct {
		args           []string
		code           int
		stdout, stderr string // a part of it; "" for nothing at all
	}{
		{nil, 0, "", ""},
		{[]string{"--check-config"}, 0, "shopd: /etc/shop/shopd.yaml is in order\n", ""},
		{[]string{"--config", "bad.yaml", "--check-config"}, 1, "", "shopd: bad.yaml:1: nonsense\n"},
		{[]string{"--config", "robbed.yaml"}, boot.ExitNoRestart, "", "shopd: opening: the till is empty\n"},
		{[]string{"--version"}, 0, "shopd (devel)", ""},
		{[]string{"--help"}, 0, "Example:\n  shopd --config /etc/shop.yaml\n", ""},
		{[]string{"-h"}, 0, "--config FILE", ""},
		{[]string{"--confg", "x"}, 2, "", "shopd: flag provided but not defined: -confg (see shopd --help)\n"},
		{[]string{"start"}, 2, "", "shopd: unexpected argument \"start\" (see shopd --help)\n"},
	} {
		code, stdout, stderr := runMain(t, fine, test.args...)
		holds := func(got, want string) bool { return strings.Contains(got, want) && (want != "" || got == "") }
		if code != test.code || !holds(stdout, test.stdout) || !holds(stderr, test.stderr) {
			t.Errorf("%q: %d, stdout %q, stderr %q", test.args, code, stdout, stderr)
		}
	}
}

func TestMainEndsWithTheSignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		code, _, stderr := runMain(t, func(ctx context.Context, env boot.Env) error {
			if err := syscall.Kill(os.Getpid(), sig); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				env.Log.Info("stopped")
				return nil
			case <-time.After(10 * time.Second):
				return errors.New("no signal arrived")
			}
		})
		if code != 0 || !strings.Contains(stderr, `"msg":"stopped"`) {
			t.Errorf("%v: %d %s", sig, code, stderr)
		}
	}
}
