package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ocsp"

	"ocspfleet/db"
	"ocspfleet/ops/fleet"
)

// waiting holds the flags of a verb that can wait until the sites say so.
type waiting struct {
	wait    bool
	timeout time.Duration
}

// check refuses a time that is none.
func (w *waiting) check() error {
	if w.timeout <= 0 {
		return usagef("--timeout %s: want more than 0", w.timeout)
	}
	return nil
}

func (w *waiting) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.wait, "wait", false, "with --apply: return when every active site says so; exit code 3 if one does not")
	cmd.Flags().DurationVar(&w.timeout, "timeout", time.Minute, "how long --wait waits")
}

// seen is what --wait saw.
type seen struct {
	Sites   []seenSite `json:"sites"`
	Revoked bool       `json:"all_say_revoked"`
	Good    bool       `json:"all_say_good"` // of a release
	Took    float64    `json:"took_seconds"`
	// GoodUntil is the latest nextUpdate that a good answer can bear; HTTPUntil is
	// until when HTTP caches may hand one out. Both count the sites that do not
	// answer revoked: they may go on saying good. Null of a release.
	GoodUntil *string `json:"good_until"`
	HTTPUntil *string `json:"http_good_until"`
}

type seenSite struct {
	Name    string  `json:"name"`
	URL     string  `json:"url"`
	Revoked bool    `json:"revoked"`
	Took    float64 `json:"took_seconds"`
	Detail  *string `json:"detail"`
}

// await asks the sites until all say the status, or for the timeout.
func (p *program) await(ctx context.Context, store *db.Store, issuer db.Issuer, serial db.Serial, status int, w waiting) (seen, error) {
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	replies, err := fleet.Surveyor{Now: p.now}.Await(limited, store, issuer, serial, status)
	if ctx.Err() != nil {
		return seen{}, errors.New("the wait was broken off; what was done stays")
	}
	if err != nil {
		return seen{}, fmt.Errorf("waiting for the sites (what was done stays): %w", err)
	}
	all := len(replies) > 0
	s := seen{Sites: []seenSite{}, Took: time.Since(began).Round(time.Millisecond).Seconds()}
	for _, r := range replies {
		s.Sites = append(s.Sites, seenSite{r.Site, r.URL, r.Says && status == ocsp.Revoked, r.Took.Round(time.Millisecond).Seconds(), textOrNil(r.Detail)})
		all = all && r.Says
	}
	s.Revoked, s.Good = all && status == ocsp.Revoked, all && status == ocsp.Good
	if status == ocsp.Revoked {
		good, cached := goodUntil(issuer.Policy, p.now(), s.Revoked)
		s.GoodUntil, s.HTTPUntil = new(stamp(good)), new(stamp(cached))
	}
	return s, nil
}

// goodUntil bounds what was said before now. thisUpdate comes from the horizon, so
// that no answer without the revocation ends later than validity - backdate from
// now, whoever gives it. HTTP caches keep what they got for http_max_age; a silent
// site may hand out good until its copy, which is older than now, is max_staleness old.
func goodUntil(policy db.Policy, now time.Time, everySite bool) (good, cached time.Time) {
	good = now.Add(policy.Validity - policy.Backdate)
	cached = now.Add(policy.HTTPMaxAge)
	if !everySite {
		cached = cached.Add(policy.MaxStaleness + db.MaxClockSkew)
	}
	if cached.After(good) { // max-age ends before nextUpdate
		cached = good
	}
	return good, cached
}

// says names what was waited for.
func (s seen) says() string {
	if s.GoodUntil == nil {
		return "good"
	}
	return "revoked"
}

// verdict is the error of a wait that ended without every site.
func (s seen) verdict(issuer string) error {
	if s.Revoked || s.Good {
		return nil
	}
	if len(s.Sites) == 0 {
		return wrongf("no active site has a certificate of issuer %q: nobody answers %s (what was done stays)", issuer, s.says())
	}
	var silent []string
	for _, site := range s.Sites {
		if site.Detail != nil {
			silent = append(silent, fmt.Sprintf("%s (%s)", site.Name, *site.Detail))
		}
	}
	return wrongf("after %gs these sites do not answer %s: %s; what was done stays, and they will when they are back", s.Took, s.says(), strings.Join(silent, ", "))
}

func (s seen) tell(t *table) {
	t.row("SITE", "SAYS "+strings.ToUpper(s.says()), "AFTER", "DETAIL")
	for _, site := range s.Sites {
		took := "-"
		if site.Detail == nil {
			took = fmt.Sprintf("%gs", site.Took)
		}
		t.row(site.Name, yes(site.Detail == nil), took, orDash(site.Detail))
	}
	if s.Revoked || s.Good {
		t.line(fmt.Sprintf("Every active site answers %s after %gs.", s.says(), s.Took))
	}
	if s.GoodUntil == nil {
		return
	}
	if !s.Revoked {
		t.line("Who is silent may go on saying good, at most until its copy is as old as the issuer's policy allows; the times below count that.")
	}
	t.line(fmt.Sprintf("Clients and caches that keep an earlier good may use it until %s; HTTP caches hand it out until %s.", *s.GoodUntil, *s.HTTPUntil))
}

// changeAndWait tells of what was done and waits until the sites say the status. A
// table says at once that it was done; JSON is one document at the end.
func (p *program) changeAndWait(ctx context.Context, store *db.Store, issuer db.Issuer, serial db.Serial, status int, change certificateChange, w waiting) error {
	asJSON := p.output == "json"
	if !asJSON {
		if err := p.print(nil, func(t *table) { change.Certificate.tell(t); change.tell(t) }); err != nil {
			return err
		}
	}
	s, err := p.await(ctx, store, issuer, serial, status, w)
	if err != nil {
		return err
	}
	whole := struct {
		certificateChange
		Seen seen `json:"seen"`
	}{change, s}
	if err := p.print(whole, s.tell); err != nil {
		return err
	}
	return s.verdict(issuer.Name)
}
