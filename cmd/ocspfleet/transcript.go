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

// transcript prints a story: titles, commands as a reader could type them, their real output,
// and what the reader should see.
type transcript struct {
	out  io.Writer
	dir  string // the commands' working directory
	seen []string
}

func (t *transcript) title(text string) { fmt.Fprintf(t.out, "\n== %s\n", text) }

// run runs a command, prints it and its output, and returns the output.
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

// saw prints the result that the story shows.
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

// shell writes a command in shell syntax.
func shell(program string, args ...string) string {
	words := append([]string{program}, args...)
	for i, word := range words {
		if word == "" || strings.ContainsAny(word, " \t\n'\"\\$&|;<>()*?[]#~`!{}") {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
