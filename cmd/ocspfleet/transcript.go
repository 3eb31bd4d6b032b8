package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// transcript prints a story: titles, commands as a reader could type them, their
// real output, and what was to be seen.
type transcript struct {
	out  io.Writer
	dir  string // where the commands run
	seen []string
}

func (t *transcript) title(text string) { fmt.Fprintf(t.out, "\n== %s\n", text) }

// run runs a command, prints both it and what it says, and returns that.
func (t *transcript) run(ctx context.Context, program string, args ...string) (string, error) {
	fmt.Fprintf(t.out, "$ %s\n", shell(program, args...))
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = t.dir
	out, err := cmd.CombinedOutput()
	text := strings.TrimRight(string(out), "\n")
	if text != "" {
		fmt.Fprintln(t.out, text)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return text, fmt.Errorf("running %s: %w", program, err)
	}
	return text, err
}

// saw notes what the story was to show.
func (t *transcript) saw(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	t.seen = append(t.seen, line)
	fmt.Fprintf(t.out, "-> %s\n", line)
}

func (t *transcript) summary(took time.Duration) {
	t.title(fmt.Sprintf("Seen, in %.0f s, the fleet's start and end included", took.Seconds()))
	for _, line := range t.seen {
		fmt.Fprintf(t.out, "  * %s\n", line)
	}
}

// shell writes a command as a shell wants it.
func shell(program string, args ...string) string {
	words := append([]string{program}, args...)
	for i, word := range words {
		if word == "" || strings.ContainsAny(word, " \t\n'\"\\$&|;<>()*?[]#~`!{}") {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
