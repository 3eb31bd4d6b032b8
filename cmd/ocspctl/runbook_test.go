package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The script poisoned.txtar does what docs/operations.md says, in its order.
func TestTheWayBackOfAPoisonedMasterIsTheRunbooks(t *testing.T) {
	read := func(file string) string {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	_, section, _ := strings.Cut(read("../../docs/operations.md"), "The way back, each step in the audit:")
	section, _, _ = strings.Cut(section, "\n**")
	script := strings.ReplaceAll(read("testdata/poisoned.txtar"), "ocspctl --config master.yaml ", "ocspctl ")
	commands := regexp.MustCompile("`(ocspctl [^`]+)`")
	for step := 1; step <= 5; step++ {
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
			command := strings.Join(strings.Fields(found[1]), " ")
			words := strings.ReplaceAll(regexp.QuoteMeta(command), `\.\.\.`, ".*")
			if command != "ocspctl issuer set" && !regexp.MustCompile(words).MatchString(done) { // for another poison
				t.Errorf("step %d: %s: the script does not", step, command)
			}
		}
	}
}
