package main

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

// daemonCheck has a daemon check its own configuration: nobody else knows its
// keys. It does everything short of listening.
func (p *program) daemonCheck(ctx context.Context, name, file string) error {
	path, err := daemonProgram(name)
	if err != nil {
		return err
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, path, "--config", file, "--check-config")
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Run()
	lines := []string{}
	for line := range strings.Lines(said.String()) {
		lines = append(lines, strings.TrimRight(line, "\n"))
	}
	var failed *exec.ExitError
	if err != nil && (!errors.As(err, &failed) || failed.ExitCode() < 0) {
		return fmt.Errorf("running %s: %w", path, err)
	}
	faults := lines
	if err == nil {
		faults = []string{}
	}
	if err := p.Print(map[string]any{"config": file, "daemon": name, "faults": faults}, func(t *cli.Table) {
		for _, line := range lines {
			t.Line(line)
		}
	}); err != nil {
		return err
	}
	if failed != nil {
		return cli.Wrongf("%s does not start with %s", name, file)
	}
	return nil
}
