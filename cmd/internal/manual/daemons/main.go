// Program daemons writes the manual pages of the daemons, section 8, from their
// sources: go run ./cmd/internal/manual/daemons DIR, in the repository's root.
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

func write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("writing the manual: %w", err)
	}
	for _, daemon := range []string{"ocspd", "ocspsyncd"} {
		name, text, err := manual.Daemon(filepath.Join("cmd", daemon))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name+".8"), text, 0o644)
		}
		if err != nil {
			return fmt.Errorf("writing the manual: %w", err)
		}
	}
	return nil
}
