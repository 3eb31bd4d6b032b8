package logical

import (
	"errors"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

func TestDiagnoseOfTheSignedFiles(t *testing.T) {
	down := errors.New("connection refused")
	for _, c := range []struct {
		name    string
		change  func(*filesSight)
		trouble string // a part of it; empty: all is well
		seed    bool
		enable  bool
	}{
		{"all is well", func(*filesSight) {}, "", false, false},
		{"no talk with the master yet", func(s *filesSight) { s.probe = filesProbe{} }, "", false, false},
		{"master away", func(s *filesSight) { s.probe.err = down }, "", false, false},
		{"forked: nothing is copied over the evidence", func(s *filesSight) { s.forked = "two segments"; s.local.Exists = false }, "contradicts what it signed: two segments", false, false},
		{"new site", func(s *filesSight) { s.local = sitedb.Subscription{} }, "they were never copied; ocspsyncd copies them anew", true, false},
		{"new site, master away", func(s *filesSight) { s.local = sitedb.Subscription{}; s.probe.err = down }, "cannot be copied: connection refused", false, false},
		{"settings", func(s *filesSight) { s.local.Wrong = "streaming is on" }, "streaming is on", true, false},
		{"the rows' slot", func(s *filesSight) { s.local.Slot = "ocsp_site_a_1790000000000" }, "not one of site site-a for them", true, false},
		{"two tables", func(s *filesSight) { s.local.InStep = 2 }, "2 of 3 tables", true, false},
		{"disabled", func(s *filesSight) { s.local.Enabled = false }, "somebody disabled", false, true},
		{"slot gone", func(s *filesSight) { s.probe.slots = nil }, "has no slot ocsp_site_a_01790000000", true, false},
		{"slot lost", func(s *filesSight) { s.probe.slots[0].Status = "lost" }, "gave up slot", true, false},
		{"a wrong file", func(s *filesSight) { s.wrong = "segment 3 is wrong" }, "segment 3 is wrong", true, false},
		{"a wrong file, and the last copy failed", func(s *filesSight) { s.wrong, s.failed = "it is wrong", ", which failed: disk full" }, "anew, which failed: disk full", true, false},
		{"late, not yet told", func(s *filesSight) { s.wanted, s.since = noon, noon.Add(-20*time.Second) }, "", false, false},
		{"late", func(s *filesSight) { s.wanted, s.since = noon, noon.Add(-40*time.Second) }, "somebody holds a lock", false, false},
		{"late, no worker", func(s *filesSight) { s.wanted, s.since, s.local.Worker = noon, noon.Add(-40*time.Second), false }, "failed 0 times", false, false},
		{"late, master away", func(s *filesSight) { s.wanted, s.since, s.probe.err = noon, noon.Add(-40*time.Second), down }, "", false, false},
		{"very late", func(s *filesSight) { s.wanted, s.since = noon, noon.Add(-3*time.Minute) }, "copies them anew", true, false},
	} {
		s := filesSight{
			now: noon, site: "site-a", stall: 30 * time.Second,
			local: sitedb.Subscription{Exists: true, Enabled: true, Slot: "ocsp_site_a_01790000000", Tables: sitedb.FilesTables, InStep: sitedb.FilesTables, Worker: true},
			probe: filesProbe{at: noon, slots: []db.Slot{{Name: "ocsp_site_a_01790000000", Active: true, Status: "reserved"}}},
		}
		c.change(&s)
		got := diagnoseFiles(s)
		if (got.trouble == "") != (c.trouble == "") || !strings.Contains(got.trouble, c.trouble) || (got.seed != "") != c.seed || got.enable != c.enable {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}
