package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ocspfleet/db"
	"ocspfleet/ops/fleet"
)

// waiting holds the flags of a verb that can wait until the sites say so.
type waiting struct {
	wait    bool
	timeout time.Duration
}

func (w *waiting) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.wait, "wait", false, "with --apply: return when every active site answers revoked; exit code 3 if one does not")
	cmd.Flags().DurationVar(&w.timeout, "timeout", time.Minute, "how long --wait waits")
}

// seen is what --wait saw.
type seen struct {
	Sites   []seenSite `json:"sites"`
	Revoked bool       `json:"all_say_revoked"`
	Took    float64    `json:"took_seconds"`
	// GoodUntil is the latest nextUpdate that a good answer can bear; HTTPUntil is
	// until when HTTP caches may hand one out. Both count the sites that do not
	// answer revoked: they may go on saying good.
	GoodUntil string `json:"good_until"`
	HTTPUntil string `json:"http_good_until"`
}

type seenSite struct {
	Name    string  `json:"name"`
	URL     string  `json:"url"`
	Revoked bool    `json:"revoked"`
	Took    float64 `json:"took_seconds"`
	Detail  *string `json:"detail"`
}

// awaitRevoked asks the sites until all say revoked, or for the timeout.
func (p *program) awaitRevoked(ctx context.Context, store *db.Store, issuer db.Issuer, serial db.Serial, w waiting) (seen, error) {
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	replies, err := fleet.Surveyor{Now: p.now}.AwaitRevoked(limited, store, issuer, serial)
	if ctx.Err() != nil {
		return seen{}, errors.New("the wait was broken off; the revocation stays")
	}
	if err != nil {
		return seen{}, fmt.Errorf("waiting for the sites (the revocation stays): %w", err)
	}
	s := seen{Sites: []seenSite{}, Revoked: len(replies) > 0, Took: time.Since(began).Round(time.Millisecond).Seconds()}
	for _, r := range replies {
		s.Sites = append(s.Sites, seenSite{r.Site, r.URL, r.Revoked, r.Took.Round(time.Millisecond).Seconds(), textOrNil(r.Detail)})
		s.Revoked = s.Revoked && r.Revoked
	}
	good, cached := goodUntil(issuer.Policy, p.now(), s.Revoked)
	s.GoodUntil, s.HTTPUntil = stamp(good), stamp(cached)
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

// verdict is the error of a wait that ended without every site.
func (s seen) verdict(issuer string) error {
	if s.Revoked {
		return nil
	}
	if len(s.Sites) == 0 {
		return wrongf("no active site has a certificate of issuer %q: nobody answers revoked (the revocation stays)", issuer)
	}
	var silent []string
	for _, site := range s.Sites {
		if !site.Revoked {
			silent = append(silent, fmt.Sprintf("%s (%s)", site.Name, *site.Detail))
		}
	}
	return wrongf("after %gs these sites do not answer revoked: %s; the revocation stays, and they will when they are back", s.Took, strings.Join(silent, ", "))
}

func (s seen) tell(t *table) {
	t.row("SITE", "SAYS REVOKED", "AFTER", "DETAIL")
	for _, site := range s.Sites {
		took := "-"
		if site.Revoked {
			took = fmt.Sprintf("%gs", site.Took)
		}
		t.row(site.Name, yes(site.Revoked), took, orDash(site.Detail))
	}
	if s.Revoked {
		t.line(fmt.Sprintf("Every active site answers revoked after %gs.", s.Took))
	}
	if !s.Revoked {
		t.line("Who is silent may go on saying good, at most until its copy is as old as the issuer's policy allows; the times below count that.")
	}
	t.line(fmt.Sprintf("Clients and caches that keep an earlier good may use it until %s; HTTP caches hand it out until %s.", s.GoodUntil, s.HTTPUntil))
}

// revokeAndWait tells of a revocation that was made and waits for the sites. A
// table says at once that it was made; JSON is one document at the end.
func (p *program) revokeAndWait(ctx context.Context, store *db.Store, issuer db.Issuer, serial db.Serial, change certificateChange, w waiting) error {
	asJSON := p.output == "json"
	if !asJSON {
		if err := p.print(nil, func(t *table) { change.Certificate.tell(t); change.tell(t) }); err != nil {
			return err
		}
	}
	s, err := p.awaitRevoked(ctx, store, issuer, serial, w)
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
