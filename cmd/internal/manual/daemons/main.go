// Program daemons writes the manual pages of the daemons, section 8, and of ocspctl.yaml,
// section 5, from their sources into DIR/man8 and DIR/man5: go run
// ./cmd/internal/manual/daemons DIR, in the repository's root.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"ocspfleet/cmd/internal/manual"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "daemons: want one argument, the folder for the pages")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "daemons: %v\n", err)
		os.Exit(1)
	}
}

// configs is where the types of all configurations are.
var configs = filepath.Join("ops", "config")

func write(dir string) error {
	for _, daemon := range []string{"ocspd", "ocspsyncd"} {
		name, text, err := manual.Daemon(filepath.Join("cmd", daemon), configs)
		if err == nil {
			err = writePage(filepath.Join(dir, "man8", name+".8"), text)
		}
		if err != nil {
			return fmt.Errorf("writing the manual: %w", err)
		}
	}
	text, err := manual.File(configs, "ocspctl.yaml", "ocspctl")
	if err == nil {
		err = writePage(filepath.Join(dir, "man5", "ocspctl.yaml.5"), text)
	}
	if err != nil {
		return fmt.Errorf("writing the manual: %w", err)
	}
	return nil
}

func writePage(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
