package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"ocspfleet/cmd/internal/cli"
)

// daemons are the programs whose configuration ocspctl can have checked.
var daemons = []string{"ocspd", "ocspsyncd"}

// daemonProgram finds a daemon: beside ocspctl, or where the shell would.
func daemonProgram(name string) (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("looking for %s beside ocspctl and in PATH: %w", name, err)
	}
	return path, nil
}

// daemon has a daemon check its own configuration: nobody else knows its keys. It does
// everything short of listening.
func daemon(ctx context.Context, p *cli.Program, name, file string) error {
	path, err := daemonProgram(name)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, path, "--config", file, "--check-config")
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.TrimRight(line, "\n"))
	}
	var failed *exec.ExitError
	if err != nil && (!errors.As(err, &failed) || failed.ExitCode() < 0) {
		return fmt.Errorf("running %s: %w", path, err)
	}
	faults := lines
	if err == nil {
		faults = nil
	}
	if err := p.Show(cli.Record{cli.F("config", "", file), cli.F("daemon", "", name), cli.F("faults", "", faults)}, text(lines)); err != nil {
		return err
	}
	if failed != nil {
		return cli.Wrongf("%s does not start with %s", name, file)
	}
	return nil
}
