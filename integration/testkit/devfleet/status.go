package devfleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
)

// PartStatus is how one part is at this moment.
type PartStatus struct {
	Name   string `json:"name"`
	PID    int    `json:"pid"` // 0: not running
	Ready  bool   `json:"ready"`
	Reason string `json:"reason"` // why it is not ready
	Log    string `json:"log"`
	URL    string `json:"url,omitempty"` // where it answers OCSP
}

// Status looks at every part.
func (f *Fleet) Status(ctx context.Context) []PartStatus {
	var all []PartStatus
	for _, p := range f.opts.parts() {
		s := PartStatus{Name: p.name, PID: p.pid(), Log: f.Rel(p.logFile), Ready: true}
		if err := p.ready(ctx); err != nil {
			s.Ready, s.Reason = false, err.Error()
		}
		for _, site := range f.Sites {
			if p.name == site.Name+"/ocspd" {
				s.URL = site.URL
			}
		}
		all = append(all, s)
	}
	return all
}

// WriteStatus prints a table of it.
func WriteStatus(out io.Writer, all []PartStatus) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PART\tPID\tSTATE\tURL")
	for _, s := range all {
		pid, state := fmt.Sprint(s.PID), "ready"
		if s.PID == 0 {
			pid = "-"
		}
		if !s.Ready {
			state = strings.TrimSpace(s.Reason)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", s.Name, pid, state, s.URL)
	}
	return table.Flush()
}

// WriteLogs copies the last lines of each part's log whose name is name or lies
// under it ("site-a", "site-a/ocspd"); all for "".
func (f *Fleet) WriteLogs(out io.Writer, name string, lines int) error {
	var found bool
	for _, p := range f.opts.parts() {
		if name != "" && p.name != name && p.owner() != name {
			continue
		}
		found = true
		text, err := os.ReadFile(p.logFile)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("reading the log of %s: %w", p.name, err)
		}
		fmt.Fprintf(out, "==> %s (%s)\n", p.name, f.Rel(p.logFile))
		if tail := lastLines(string(text), lines); tail != "" {
			fmt.Fprintln(out, tail)
		}
	}
	if !found {
		_, err := f.part(name)
		return err
	}
	return nil
}
