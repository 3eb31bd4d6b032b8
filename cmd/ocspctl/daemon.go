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

	"go.yaml.in/yaml/v3"
)

// daemons are the programs whose configuration ocspctl can have checked.
var daemons = []string{"ocspd", "ocspsyncd"}

// peekDaemon reads of ocspd's configuration what doctor asks for.
func peekDaemon(file string) (daemonPlace, error) {
	place := daemonPlace{Admin: "127.0.0.1:9080", StateDir: "/var/lib/ocspd"} // ocspd's own defaults
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, &place)
	}
	if err != nil {
		return daemonPlace{}, fmt.Errorf("reading ocspd's configuration: %w", err)
	}
	if place.Listen == "" || place.Database.DSN == "" {
		return daemonPlace{}, fmt.Errorf("reading ocspd's configuration: %s has no listen or no database.dsn: ocspctl config check --daemon ocspd %s", file, file)
	}
	return place, nil
}

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
