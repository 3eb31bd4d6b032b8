package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The scripts do what docs/operations.md says, in its order.
func TestTheWayBackOfAPoisonedMasterIsTheRunbooks(t *testing.T) {
	followsRunbook(t, "The way back, each step in the audit:", "poisoned.txtar", 5, "ocspctl issuer set") // that is for another poison
}

func TestTheWayBackOfARestoredMasterIsTheRunbooks(t *testing.T) {
	followsRunbook(t, "**The master was restored**", "restored.txtar", 6)
}

// followsRunbook looks for each command of the numbered steps in the same step of a script.
func followsRunbook(t *testing.T, begin, file string, steps int, except ...string) {
	t.Helper()
	read := func(file string) string {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	_, section, found := strings.Cut(read("../../docs/operations.md"), begin)
	if !found {
		t.Fatalf("no runbook %q", begin)
	}
	section, _, _ = strings.Cut(section, "\n**")
	script := regexp.MustCompile(`ocspctl --config \S+ `).ReplaceAllString(read("testdata/"+file), "ocspctl ")
	commands, seen := regexp.MustCompile("`(ocspctl [^`]+)`"), 0
	for step := 1; step <= steps; step++ {
		part := func(text, begin, end string) string {
			_, text, found := strings.Cut(text, fmt.Sprintf(begin, step))
			if !found {
				t.Errorf("no step %d", step)
			}
			text, _, _ = strings.Cut(text, fmt.Sprintf(end, step+1))
			return text
		}
		text, done := part(section, "\n%d. ", "\n%d. "), part(script, "\n# %d. ", "\n# %d. ")
		for _, found := range commands.FindAllStringSubmatch(text, -1) {
			seen++
			command := strings.Join(strings.Fields(found[1]), " ")
			words := regexp.MustCompile(`'?\\\.\\\.\\\.'?|\S*site-a\S*`).ReplaceAllString(regexp.QuoteMeta(command), ".*")
			if !slices.Contains(except, command) && !regexp.MustCompile(words).MatchString(done) {
				t.Errorf("step %d: %s: the script does not", step, command)
			}
		}
	}
	if seen < steps {
		t.Errorf("%d commands were found", seen)
	}
}
