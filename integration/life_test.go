package integration

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// seenBy is what cert revoke --wait --output json says of the sites.
type seenBy struct {
	Changed bool `json:"changed"`
	Seen    struct {
		Revoked bool    `json:"all_say_revoked"`
		Took    float64 `json:"took_seconds"`
		Good    string  `json:"good_until"`
		Sites   []struct {
			Name    string  `json:"name"`
			Revoked bool    `json:"revoked"`
			Took    float64 `json:"took_seconds"`
		} `json:"sites"`
	} `json:"seen"`
}

func TestRevokeWaitReturnsWhenEverySiteSaysSo(t *testing.T) {
	f := shared(t)
	issuer := f.Issuers[0]
	serial := fresh(t, issuer)
	for _, site := range lasting(f) {
		await(t, f, site, issuer, serial, ocsp.Good, patience) // every cache is warm
	}
	out, err := f.Ctl(t.Context(), "responder", "list", "--output", "json")
	if err != nil {
		t.Fatal(err)
	}
	active := strings.Count(out, `"state": "active"`)
	out, err = f.Ctl(t.Context(), "cert", "revoke", "--issuer", issuer.Name, "--serial", serial, "--reason", "keyCompromise",
		"--wait", "--timeout", "30s", "--apply", "--output", "json")
	if active == len(lasting(f)) && err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var told seenBy
	if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &told); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	byName := map[string]bool{}
	for _, site := range told.Seen.Sites {
		byName[site.Name] = site.Revoked
	}
	if !told.Changed || len(told.Seen.Sites) != active || !byName["site-a"] || !byName["site-b"] {
		t.Errorf("with %d active sites it says %+v", active, told)
	}
	for _, site := range lasting(f) {
		await(t, f, site, issuer, serial, ocsp.Revoked, time.Second)
	}
	if until, err := time.Parse(time.RFC3339, told.Seen.Good); err != nil || time.Until(until) < 71*time.Hour || time.Until(until) > 72*time.Hour {
		t.Errorf("caches may hold a good until %s", told.Seen.Good)
	}
}

func TestRevokeWaitNamesTheSilentSite(t *testing.T) {
	f := shared(t)
	issuer := f.Issuers[1]
	serial := fresh(t, issuer)
	pid := f.Sites[1].PIDs.Ocspd
	if err := f.Kill(t.Context(), "site-b/ocspd"); err != nil {
		t.Fatal(pid, err)
	}
	cmd := exec.CommandContext(t.Context(), f.Path(f.Ocspctl), "--config", f.Path(f.OcspctlConfig), "cert", "revoke", "--issuer", issuer.Name,
		"--serial", serial, "--reason", "keyCompromise", "--wait", "--timeout", "2s", "--apply")
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(string(out), "do not answer revoked: ") || !strings.Contains(string(out), "site-b (") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if err := f.Start(t.Context(), "site-b/ocspd"); err != nil {
		t.Fatal(err)
	}
	for _, site := range lasting(f) {
		await(t, f, site, issuer, serial, ocsp.Revoked, patience)
	}
}

func TestHoldReleaseAndCorrectReachEverySite(t *testing.T) {
	f := shared(t)
	issuer := f.Issuers[0]
	serial := fresh(t, issuer)
	ctl := func(args ...string) string {
		t.Helper()
		out, err := f.Ctl(t.Context(), append(args, "--apply")...)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return out
	}
	everywhere := func(status int) {
		t.Helper()
		for _, site := range lasting(f) {
			await(t, f, site, issuer, serial, status, patience)
		}
	}
	one := []string{"--issuer", issuer.Name, "--serial", serial}
	ctl(append([]string{"cert", "hold"}, one...)...)
	everywhere(ocsp.Revoked)
	ctl(append([]string{"cert", "release"}, one...)...)
	everywhere(ocsp.Good)
	ctl(append([]string{"cert", "revoke", "--reason", "keyCompromise"}, one...)...)
	everywhere(ocsp.Revoked)
	ctl(append([]string{"cert", "correct", "--why", "the wrong serial"}, one...)...)
	out, err := f.Ctl(t.Context(), "approval", "list", "--output", "json")
	if err != nil {
		t.Fatal(err)
	}
	var open struct {
		Requests []struct {
			ID int64 `json:"id"`
		} `json:"requests"`
	}
	if err := json.Unmarshal([]byte(out), &open); err != nil || len(open.Requests) != 1 {
		t.Fatalf("open requests: %s, %v", out, err)
	}
	if err := f.Approve(t.Context(), open.Requests[0].ID, true, "checked"); err != nil {
		t.Fatal(err)
	}
	everywhere(ocsp.Good)
	whole(t, f, patience, "site-a/ocspd", "site-b/ocspd")
}

func TestFleetStatusOnOneScreen(t *testing.T) {
	f := shared(t)
	whole(t, f, patience, "site-a/ocspd", "site-b/ocspd")
	out, _ := f.Ctl(t.Context(), "fleet", "status", "--output", "json") // a site may be lost by another test
	var told struct {
		Sites []struct {
			Name      string   `json:"name"`
			Mode      *string  `json:"mode"`
			Streaming *bool    `json:"streaming"`
			Position  *int64   `json:"position"`
			Source    *string  `json:"source"`
			Horizon   *float64 `json:"horizon_age_seconds"`
			Budget    *float64 `json:"outage_budget_seconds"`
			Left      *float64 `json:"certificate_seconds_left"`
			Verdict   string   `json:"verdict"`
		} `json:"sites"`
	}
	if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &told); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, site := range told.Sites {
		if site.Name == "site-c" {
			continue
		}
		if site.Verdict != "ok" || site.Position == nil || *site.Position < 1 || site.Mode == nil || site.Source == nil || *site.Source != "master" || *site.Horizon > 60 ||
			*site.Budget < 35*3600 || *site.Left < 6*24*3600 {
			t.Errorf("%s", out)
		}
		if by := map[string]string{"site-a": "feed", "site-b": "logical"}[site.Name]; *site.Mode != by || by == "logical" && (site.Streaming == nil || !*site.Streaming) {
			t.Errorf("%s", out)
		}
	}

	// It goes on until it is interrupted, which is no error.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, f.Path(f.Ocspctl), "--config", f.Path(f.OcspctlConfig), "fleet", "status", "--follow")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	var screen strings.Builder
	cmd.Stdout = &screen
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(5*time.Second, cancel)
	_ = cmd.Wait() // the context's error
	if code := cmd.ProcessState.ExitCode(); code != 0 && code != 3 || strings.Count(screen.String(), "HORIZON") < 2 {
		t.Errorf("exit code %d\n%s", code, screen.String())
	}
}
