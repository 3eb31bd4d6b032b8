package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ocspfleet/db"
	"ocspfleet/ops/fleet"
)

func (p *program) fleetCommand() *cobra.Command {
	var timeout time.Duration
	status := p.verb("status", "ask every active site, as a client would; exit code 3 when one is not well", `
		ocspctl fleet status
		ocspctl fleet status --timeout 3s --output json`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			if timeout <= 0 {
				return usagef("--timeout %s: want more than 0", timeout)
			}
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.fleetStatus(ctx, store, timeout) })
		})
	status.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long to wait for one answer")
	return noun("fleet", "all sites at once", status)
}

// fleetSite is a site as fleet status shows it.
type fleetSite struct {
	Name    string       `json:"name"`
	URL     string       `json:"url"`
	State   string       `json:"state"`
	Well    bool         `json:"well"`
	Answers []siteAnswer `json:"answers"` // one per issuer it is certified for; none when it is not active
}

type siteAnswer struct {
	Issuer     string   `json:"issuer"`
	Serial     *string  `json:"serial"` // of the site's certificate, which it was asked for
	NotAfter   *string  `json:"not_after"`
	Left       *float64 `json:"certificate_seconds_left"`
	Verdict    string   `json:"verdict"` // ok, unreachable, refused, wrong, no_certificate
	Detail     *string  `json:"detail"`
	ThisUpdate *string  `json:"this_update"`
	NextUpdate *string  `json:"next_update"`
	Age        *float64 `json:"age_seconds"` // now - thisUpdate
	Took       float64  `json:"took_seconds"`
}

func (p *program) fleetStatus(ctx context.Context, store *db.Store, timeout time.Duration) error {
	sites, err := fleet.Surveyor{Timeout: timeout, Now: p.now}.Survey(ctx, store)
	if err != nil {
		return err
	}
	now := p.now()
	views := make([]fleetSite, len(sites))
	var ill []string
	for i, s := range sites {
		views[i] = fleetSite{s.Name, s.URL, string(s.State), s.Well(), []siteAnswer{}}
		for _, f := range s.Findings {
			views[i].Answers = append(views[i].Answers, viewAnswer(f, now))
		}
		if !s.Well() {
			ill = append(ill, s.Name)
		}
	}
	err = p.print(map[string]any{"sites": views}, func(t *table) {
		t.row("SITE", "STATE", "URL", "ISSUER", "VERDICT", "AGE", "TOOK", "CERTIFICATE LEFT", "DETAIL")
		for i, v := range views {
			if len(v.Answers) == 0 {
				t.row(v.Name, v.State, v.URL, "-", "not asked", "-", "-", "-", "-")
			}
			for n, a := range v.Answers {
				tellAnswer(t, v, a, sites[i].Findings[n], now)
			}
		}
	})
	switch {
	case err != nil:
		return err
	case len(ill) > 0:
		return wrongf("%s of %s sites not well: %s", strconv.Itoa(len(ill)), strconv.Itoa(len(sites)), strings.Join(ill, ", "))
	}
	return nil
}

func viewAnswer(f fleet.Finding, now time.Time) siteAnswer {
	a := siteAnswer{
		Issuer: f.Issuer, Verdict: string(f.Verdict), Detail: textOrNil(f.Detail), NotAfter: stampOrNil(f.NotAfter),
		ThisUpdate: stampOrNil(f.ThisUpdate), NextUpdate: stampOrNil(f.NextUpdate), Took: f.Took.Round(time.Microsecond).Seconds(),
	}
	if len(f.Serial) > 0 {
		a.Serial = new(f.Serial.String())
		a.Left = new(f.NotAfter.Sub(now).Truncate(time.Second).Seconds())
	}
	if !f.ThisUpdate.IsZero() {
		a.Age = new(now.Sub(f.ThisUpdate).Truncate(time.Second).Seconds())
	}
	return a
}

func tellAnswer(t *table, v fleetSite, a siteAnswer, f fleet.Finding, now time.Time) {
	age, left := "-", "-"
	if a.Age != nil {
		age = span(now.Sub(f.ThisUpdate))
	}
	if a.Left != nil {
		left = span(f.NotAfter.Sub(now))
	}
	t.row(v.Name, v.State, v.URL, a.Issuer, strings.ReplaceAll(a.Verdict, "_", " "), age, span(f.Took), left, orDash(a.Detail))
}
