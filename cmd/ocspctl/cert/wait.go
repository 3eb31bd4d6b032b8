package cert

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/ops/sites"

	"golang.org/x/crypto/ocsp"
)

// waiting has the flags of a verb that can wait until the sites give the status.
type waiting struct {
	Wait    bool          `flag:"wait" help:"with --apply: return when every active site says so; exit code 3 if one does not"`
	Timeout time.Duration `flag:"timeout" help:"how long --wait waits"`
}

var aMinute = waiting{Timeout: time.Minute}

// Check refuses an invalid time.
func (w *waiting) Check() error {
	if w.Timeout <= 0 {
		return cli.Usagef("--timeout %s: want more than 0", w.Timeout)
	}
	return nil
}

// showChange prints what was done, and with --wait waits until the sites give the status. A table
// shows the change at once; JSON is one document at the end.
func (w *waiting) showChange(ctx context.Context, m *ctl.Master, o cli.Outcome, c certificate, status db.Status, says int) error {
	change := cli.Object("certificate", c.shown(status).Record())
	if !w.Wait || !o.Applied {
		return m.ShowChange(o, change)
	}
	if m.Output != "json" {
		if err := m.ShowChange(o, change); err != nil {
			return err
		}
	}
	s, err := w.await(ctx, m, c, says)
	if err != nil {
		return err
	}
	if err := m.Show(cli.Quiet(o), cli.Quiet(change), s); err != nil {
		return err
	}
	return s.fault(c.issuer.Name)
}

// seen is the result of --wait.
type seen struct {
	revoked bool // the awaited status; false: good
	all     bool // every active site gives it
	took    time.Duration
	sites   []sites.Reply
	// goodUntil is the latest possible nextUpdate of a good answer; cachedUntil is until when HTTP
	// caches may return one. Both count the sites that do not answer revoked: they may still
	// answer good. Zero for a release.
	goodUntil, cachedUntil time.Time
}

// await asks the sites until all give the status, or until the timeout.
func (w *waiting) await(ctx context.Context, m *ctl.Master, c certificate, status int) (seen, error) {
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	replies, err := sites.Surveyor{Now: m.Now}.Await(limited, m.Store, c.issuer, c.serial, status)
	if ctx.Err() != nil {
		return seen{}, errors.New("the wait was broken off; what was done stays")
	}
	if err != nil {
		return seen{}, fmt.Errorf("waiting for the sites (what was done stays): %w", err)
	}
	s := seen{revoked: status == ocsp.Revoked, all: len(replies) > 0, took: time.Since(began), sites: replies}
	for _, r := range replies {
		s.all = s.all && r.Says
	}
	if s.revoked {
		s.goodUntil, s.cachedUntil = goodUntil(c.issuer.Policy, m.Now(), s.all)
	}
	return s, nil
}

// goodUntil bounds the answers before now. thisUpdate comes from the horizon, so no answer without
// the revocation ends later than validity - backdate from now, from any site. HTTP caches keep an
// answer for http_max_age; a silent site may answer good until its copy, which is older than now,
// is max_staleness old.
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

// seconds returns a duration for JSON, exact to the millisecond.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// reply returns the answer of one site.
func (s seen) reply(r sites.Reply) cli.Record {
	after := "-"
	if r.Detail == "" {
		after = fmt.Sprintf("%gs", seconds(r.Took))
	}
	return cli.Record{
		cli.F("name", "SITE", r.Site), cli.F("url", "", r.URL), cli.Shown("revoked", "SAYS "+strings.ToUpper(s.says()), r.Says && s.revoked, cli.Yes(r.Detail == "")),
		cli.Shown("took_seconds", "AFTER", seconds(r.Took), after), cli.F("detail", "DETAIL", cli.OrNil(r.Detail)),
	}
}

// Fields returns the object seen.
func (s seen) Fields() cli.Record {
	return cli.Record{cli.F("seen", "", cli.Record{
		cli.F("sites", "", cli.Records(s.sites, s.reply)), cli.F("all_say_revoked", "", s.all && s.revoked), cli.F("all_say_good", "", s.all && !s.revoked),
		cli.F("took_seconds", "", seconds(s.took)), cli.F("good_until", "", s.goodUntil), cli.F("http_good_until", "", s.cachedUntil),
	})}
}

// says returns the name of the awaited status.
func (s seen) says() string {
	if s.revoked {
		return "revoked"
	}
	return "good"
}

// fault returns the error of a wait that ended without every site.
func (s seen) fault(issuer string) error {
	if s.all {
		return nil
	}
	if len(s.sites) == 0 {
		return cli.Wrongf("no active site has a certificate of issuer %q: nobody answers %s (what was done stays)", issuer, s.says())
	}
	var silent []string
	for _, r := range s.sites {
		if r.Detail != "" {
			silent = append(silent, fmt.Sprintf("%s (%s)", r.Site, r.Detail))
		}
	}
	return cli.Wrongf("after %gs these sites do not answer %s: %s; what was done stays, and they will when they are back", seconds(s.took), s.says(), strings.Join(silent, ", "))
}

// Tell prints the result for people.
func (s seen) Tell(t *cli.Table) {
	cli.List("", s.sites, s.reply).Tell(t)
	if s.all {
		t.Linef("Every active site answers %s after %gs.", s.says(), seconds(s.took))
	}
	if !s.revoked {
		return
	}
	if !s.all {
		t.Line("Who is silent may go on saying good, at most until its copy is as old as the issuer's policy allows; the times below count that.")
	}
	t.Linef("Clients and caches that keep an earlier good may use it until %s; HTTP caches hand it out until %s.", cli.Stamp(s.goodUntil), cli.Stamp(s.cachedUntil))
}
