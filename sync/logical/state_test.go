package logical

import (
	"errors"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// sound is a site that streams, and a master that answers.
func sound() sight {
	return sight{
		now: noon,
		local: sitedb.Subscription{
			Exists: true, Enabled: true, Slot: "ocsp_site_a_1790000000000", Tables: sitedb.Tables, InStep: sitedb.Tables, Worker: true,
			HasHead: true, Epoch: 1, Position: 100, AsOf: noon.Add(-3 * time.Second), Clock: noon,
		},
		probe: probe{
			at: noon, slots: []db.Slot{{Name: "ocsp_site_a_1790000000000", Active: true, Status: "reserved"}},
			head: db.Head{Epoch: 1, Position: 100, AsOf: noon.Add(-3 * time.Second)},
		},
	}
}

func TestJudgeNamesEveryState(t *testing.T) {
	down := errors.New("connection refused")
	limits := limits{site: "site-a", stall: 75 * time.Second, lag: 30 * time.Second, fresh: 3 * time.Second}
	for _, c := range []struct {
		name   string
		change func(*sight)
		want   Name
		seed   string
		enable bool
	}{
		{"all is well", func(*sight) {}, Streaming, "", false},
		{"no probe yet", func(s *sight) { s.probe = probe{} }, Streaming, "", false},
		{"master away, rows still come", func(s *sight) { s.probe.err = down }, Streaming, "", false},
		{"worker restarts", func(s *sight) { s.workerGone = time.Second }, Streaming, "", false},
		{"the copy cannot be counted", func(s *sight) { s.unread = "permission denied" }, LocalUnreachable, "", false},
		{"local database away", func(s *sight) { s.localErr = down }, LocalUnreachable, "", false},
		{"drift before all repair", func(s *sight) { s.probe.drift = "x"; s.local.Exists = false }, SchemaDrift, "", false},
		{"new site", func(s *sight) { s.local = sitedb.Subscription{} }, Seeding, "first", false},
		{"new site, master away", func(s *sight) { s.local = sitedb.Subscription{}; s.probe.err = down }, MasterUnreachable, "", false},
		{"subscription gone", func(s *sight) { s.local.Exists = false }, NotSynced, "not_subscribed", false},
		{"head gone", func(s *sight) { s.local.HasHead = false }, NotSynced, "no_head", false},
		{"settings", func(s *sight) { s.local.Wrong = "streaming is on" }, NotSynced, "settings", false},
		{"slot of site-a-1", func(s *sight) { s.local.Slot = "ocsp_site_a_1_1790000000000" }, NotSynced, "settings", false},
		{"three tables", func(s *sight) { s.local.Tables = 3; s.local.InStep = 3 }, NotSynced, "not_synced", false},
		{"a table not ready", func(s *sight) { s.local.InStep = 3 }, NotSynced, "not_synced", false},
		{"disabled", func(s *sight) { s.local.Enabled = false }, Disabled, "", true},
		{"master killed", func(s *sight) { s.probe.err = down; s.workerGone = time.Second }, MasterUnreachable, "", false},
		{"master frozen", func(s *sight) { s.probe.err = down; s.silent = 31 * time.Second }, MasterUnreachable, "", false},
		{"slot gone", func(s *sight) { s.probe.slots = nil }, SlotLost, "slot_lost", false},
		{"slot lost", func(s *sight) { s.probe.slots[0].Status = "lost" }, SlotLost, "slot_lost", false},
		{"slot of an unanswered probe", func(s *sight) { s.probe.slots = nil; s.probe.err = down }, Streaming, "", false},
		{"diverged", func(s *sight) { s.diverged = "certificate" }, Diverged, "diverged", false},
		{"repair refused", func(s *sight) { s.diverged = "certificate"; s.refused = "lost" }, RevocationsLost, "diverged", false},
		{"two failures, level with the master", func(s *sight) { s.failures = 2 }, Streaming, "", false},
		{"two failures, behind", func(s *sight) { s.failures = 2; s.probe.head.Position++ }, ApplyError, "", false},
		{"three failures, behind", func(s *sight) { s.failures = 3; s.probe.head.AsOf = noon }, ApplyError, "apply_error", false},
		{"worker does not come", func(s *sight) { s.workerGone = 76 * time.Second }, Stalled, "", false},
		{"worker hears nothing", func(s *sight) { s.silent = 76 * time.Second }, Stalled, "", false},
		{"worker away for a while", func(s *sight) { s.workerGone = 4 * time.Second }, Lagging, "", false},
		{"copy too old", func(s *sight) { s.local.AsOf = noon.Add(-31 * time.Second) }, Lagging, "", false},
		{"our clock ahead, copy fresh", func(s *sight) { s.local.Clock = noon.Add(time.Minute); s.skew = time.Minute }, Streaming, "", false},
		{"no heartbeat at the master", func(s *sight) {
			s.local.AsOf = noon.Add(-time.Minute)
			s.probe.head.AsOf = s.local.AsOf
		}, Lagging, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sound()
			c.change(&s)
			got := diagnose(s, limits)
			if got.name != c.want || got.seed != c.seed || got.enable != c.enable {
				t.Errorf("got %+v, want %s, seed %q, enable %v", got, c.want, c.seed, c.enable)
			}
			if got.name != Streaming && got.detail == "" {
				t.Error("nobody is told why")
			}
		})
	}
}

func TestBackoffSpacesSeedsAndForgetsAfterHealth(t *testing.T) {
	var b backoff
	now := noon
	for _, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second} {
		if !b.ready(now) {
			t.Fatalf("not ready at %v", now)
		}
		b.attempted(now)
		if b.ready(now.Add(want-time.Millisecond)) || !b.ready(now.Add(want)) {
			t.Errorf("next seed at %v, want after %v", b.next.Sub(now), want)
		}
		now = now.Add(want)
	}
	b.healthy(now.Add(time.Second)) // too short
	b.attempted(now)
	if got := b.next.Sub(now); got != 16*time.Second {
		t.Errorf("after a second of health: %v", got)
	}
	for range 20 {
		b.attempted(now)
	}
	if got := b.next.Sub(now); got != maxBackoff {
		t.Errorf("at most %v, got %v", maxBackoff, got)
	}
	b.healthy(now.Add(3 * maxBackoff))
	b.attempted(now)
	if got := b.next.Sub(now); got != minBackoff {
		t.Errorf("after long health: %v", got)
	}
}

func TestNewRefusesSiteNamesThatMakeNoSlot(t *testing.T) {
	for _, name := range []string{"", "Site", "a_b", "-a", "a'b", "a234567890123456789012345678901234567890123456"} {
		if _, err := New(Config{Site: name}); err == nil {
			t.Errorf("site %q was taken", name)
		}
	}
}
