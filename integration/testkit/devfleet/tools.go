package devfleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"ocspfleet/integration/testkit/pgserver"
	"ocspfleet/integration/testkit/softhsm"
)

// checkTools says what is missing on this machine, and who brings it.
func checkTools(bin string) error {
	if _, err := exec.LookPath("openssl"); err != nil {
		return errors.New("openssl is not installed: run make deps")
	}
	if _, err := pgserver.Find(); err != nil {
		return fmt.Errorf("%w (or run make deps)", err)
	}
	if _, err := softhsm.Module(); err != nil {
		return fmt.Errorf("%w (or run make deps)", err)
	}
	if _, err := exec.LookPath("softhsm2-util"); err != nil {
		return errors.New("softhsm2-util is not installed: run make deps")
	}
	for _, program := range []string{"ocspctl", "ocspd", "ocspsyncd"} {
		if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
			return fmt.Errorf("%s is not in %s: run make build", program, bin)
		}
	}
	return nil
}

// run runs a program to its end and returns what it printed. The error holds
// the end of what it said.
func run(ctx context.Context, env []string, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(environment(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stderr.String())
		if said == "" {
			said = strings.TrimSpace(stdout.String())
		}
		return stdout.String(), fmt.Errorf("running %s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, lastLines(said, 5))
	}
	return stdout.String(), nil
}

// environment is ours without what would lead a child to another database, token
// or configuration than the one it is told of.
func environment() []string {
	var kept []string
	for _, pair := range os.Environ() {
		if strings.HasPrefix(pair, "PG") || strings.HasPrefix(pair, "SOFTHSM2_CONF=") || strings.HasPrefix(pair, "OPENSSL_CONF=") ||
			strings.HasPrefix(pair, "LC_") || strings.HasPrefix(pair, "LANG=") || strings.HasPrefix(pair, "TZ=") {
			continue
		}
		kept = append(kept, pair)
	}
	return append(kept, "LC_ALL=C.UTF-8", "TZ=UTC")
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
