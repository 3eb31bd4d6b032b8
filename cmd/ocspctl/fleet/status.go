package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/keyset"
	"ocspfleet/db"
	"ocspfleet/ops/doctor"
	"ocspfleet/ops/sites"
)

// followPause is how often fleet status --follow asks again.
const followPause = 2 * time.Second

// status is fleet status.
type status struct {
	Timeout time.Duration `flag:"timeout" help:"how long to wait for one answer"`
	MaxAge  time.Duration `flag:"max-age" help:"how old a site's knowledge may be"`
	Follow  bool          `flag:"follow" help:"ask again every 2 s until interrupted"`
}

func (status) Doc() cli.Doc {
	return cli.Doc{
		Name: "status", Short: "ask every active site, as a client would; exit code 3 when one is not well",
		Long: `Asks every active site for its own certificate, as a client would, and judges the
signed answer.

VERDICT is ok, unreachable, refused, wrong, no certificate, behind (its knowledge is
older than --max-age, or it does not know a revocation that is) or forked; the state of
a site that is not active and not asked. MODE is how its rows come (logical: a
replication slot at the master bears its name; feed: its key may fetch the signed feed;
by peers: the master has not seen it for five minutes), BEHIND what of the master's log
it has not confirmed yet, POSITION the last change it surely holds (the master's last one
by its horizon), HORIZON how old its knowledge is by a fresh answer, BUDGET how long it
could go on saying good if nothing came any more (below that it stops by itself),
CERTIFICATE the life left of the shortest-lived certificate it must renew. --output json
has each issuer. Where the master is away the sites are asked that it named the last time, which
state_dir keeps, and compared with each other.
A line FORK tells that keys of this master signed two histories, as a site has shown;
a warning, that a site says so. Where the configuration has no feed.root, nobody can tell.
With --follow it asks every 2 s until interrupted; the exit code is the last one's. On a
terminal each round is drawn over the last one; --output json writes one object a line.`,
		Example: `
		ocspctl fleet status
		ocspctl fleet status --follow
		ocspctl fleet status --follow --output json >> fleet.ndjson
		ocspctl fleet status --timeout 3s --max-age 1m --output json`,
	}
}

func (v *status) Run(ctx context.Context, p *cli.Program) error {
	if v.Timeout <= 0 {
		return cli.Usagef("--timeout %s: want more than 0", v.Timeout)
	}
	if v.MaxAge <= 0 {
		return cli.Usagef("--max-age %s: want more than 0", v.MaxAge)
	}
	s := sites.Surveyor{Timeout: v.Timeout, MaxAge: v.MaxAge, Now: p.Now}
	if v.Follow {
		return follow(ctx, p, s)
	}
	r, err := ask(ctx, p, s)
	if err != nil && r == nil {
		return err
	}
	return cmp.Or(p.Show(r.parts()...), err)
}

// follow asks until it is interrupted, which is not an error. On a terminal each round replaces
// the last one.
func follow(ctx context.Context, p *cli.Program, s sites.Surveyor) error {
	p.OneLine = true
	var last error
	for {
		r, err := ask(ctx, p, s)
		switch {
		case ctx.Err() != nil:
			return last
		case r == nil:
			return err
		}
		if last = err; p.Output == "table" && p.Screen.Draws() {
			err = p.Screen.Draw(r.picture(p, last))
		} else {
			err = p.Show(append(append([]cli.Part{cli.Line("%s", cli.Stamp(r.at))}, r.parts()...), cli.Line(""))...)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(followPause):
		}
	}
}

// round is one round of questions.
type round struct {
	at     time.Time
	maxAge time.Duration
	sites  []sites.Status
	forks  []doctor.Fork
	away   *masterAway // why the master could not be asked; nil: it was
}

func (r *round) parts() []cli.Part {
	return []cli.Part{
		cli.Record{cli.F("asked_at", "", r.at)},
		cli.List("sites", r.sites, func(s sites.Status) cli.Record { return site(s, r.at) }),
		cli.Quiet(cli.List("forks", r.forks, keyset.ForkRecord)),
		cli.Said(func(t *cli.Table) {
			for _, f := range r.forks {
				t.Line(keyset.ForkText(f))
			}
		}),
		cli.Record{cli.F("max_age_seconds", "", r.maxAge.Seconds()), cli.F("master", "", cli.OrNil(r.away.detail()))},
	}
}

// picture returns a round for the screen: when, what is wrong, the sites.
func (r *round) picture(p *cli.Program, wrong error) string {
	text := "every site is well"
	if wrong != nil {
		text = wrong.Error()
	}
	return p.Draft(func(t *cli.Table) {
		t.Line(cli.Stamp(r.at) + "  " + text)
		for _, part := range r.parts() {
			part.Tell(t)
		}
	})
}

// ask asks every site once. If a site is not well, it returns an error with the round; without a
// round it could not ask.
func ask(ctx context.Context, p *cli.Program, s sites.Surveyor) (*round, error) {
	sites, forks, err := survey(ctx, p, s)
	away := (*masterAway)(nil)
	if err != nil && !errors.As(err, &away) {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err() // interrupted answers say nothing about the sites
	}
	var ill []string
	for _, s := range sites {
		if !s.Well() {
			ill = append(ill, s.Name)
		}
	}
	proven := false
	for _, f := range forks {
		proven = proven || f.Proven
	}
	r := &round{p.Now(), s.MaxAge, sites, forks, away}
	switch {
	case away != nil:
		return r, cli.Wrongf("%s; %d of %d sites not well", away.detail(), len(ill), len(sites))
	case proven:
		return r, cli.Wrongf("the feed is forked: a key was stolen, or two masters publish (docs/feed-keys.md)")
	case len(ill) > 0:
		return r, cli.Wrongf("%d of %d sites not well: %s", len(ill), len(sites), strings.Join(ill, ", "))
	}
	return r, nil
}

// site returns a site; of several issuers the worst counts. Without an answer it has no position,
// horizon and budget. A site that is not active has only its state.
func site(s sites.Status, now time.Time) cli.Record {
	result, detail := "not_asked", ""
	var position int64
	var horizon, budget, left *time.Duration
	for n, f := range s.Results {
		if n == 0 || result == string(sites.ResultOK) && f.Result != sites.ResultOK {
			result, detail = string(f.Result), f.Detail
			if f.Detail != "" && f.Issuer != "" {
				detail = f.Issuer + ": " + f.Detail
			}
		}
		if f.Position > 0 && (position == 0 || f.Position < position) {
			position = f.Position
		}
		t := timesOf(f, now)
		horizon, budget, left = worse(horizon, t.horizon, false), worse(budget, t.budget, true), worse(left, t.left, true)
	}
	if s.Fork != "" && result == string(sites.ResultOK) {
		result, detail = string(sites.ResultForked), s.Fork
	}
	if s.Outdated() && detail == "" {
		detail = "it cannot read keys for corrections yet: upgrade it before the root names the first"
	}
	var streaming *bool // it reads its slot now
	var behind *uint64
	lag := "-"
	if s.Slot != nil {
		streaming, behind, lag = &s.Slot.Streaming, &s.Slot.Behind, fmt.Sprintf("%d KiB", s.Slot.Behind/1024)
		switch {
		case detail != "":
		case s.Slot.Lost:
			detail = "its slot is lost: it will be seeded anew"
		case !s.Slot.Streaming:
			detail = "it does not stream"
		}
	}
	shown := strings.ReplaceAll(result, "_", " ")
	if s.State != db.ResponderActive {
		shown = string(s.State)
	}
	mode := cmp.Or(s.Mode(), "-")
	if s.Source() != "" && s.Source() != "master" {
		mode += " by " + s.Source()
	}
	var seen time.Time // its last request to the master for the feed
	if s.Feed != nil {
		seen = s.Feed.SeenAt
	}
	return cli.Record{
		cli.F("name", "SITE", s.Name), cli.F("url", "", s.URL), cli.F("state", "", s.State), cli.F("well", "", s.Well()),
		cli.Shown("verdict", "VERDICT", result, shown),
		cli.Shown("mode", "MODE", cli.OrNil(s.Mode()), mode), cli.F("source", "", cli.OrNil(s.Source())), cli.F("feed_seen_at", "", seen),
		cli.F("streaming", "", streaming), cli.Shown("behind_bytes", "BEHIND", behind, lag), cli.F("outdated", "", s.Outdated()),
		cli.F("position", "POSITION", cli.OrNil(position)),
		cli.Shown("horizon_age_seconds", "HORIZON", seconds(horizon), life(horizon)),
		cli.Shown("outage_budget_seconds", "BUDGET", seconds(budget), life(budget)),
		cli.Shown("certificate_seconds_left", "CERTIFICATE", seconds(left), life(left)),
		cli.F("detail", "DETAIL", cli.OrNil(detail)),
		cli.F("answers", "", cli.Records(s.Results, func(f sites.ProbeResult) cli.Record { return answer(f, now) })),
	}
}

// times are the times of an answer; nil: unknown.
type times struct{ age, horizon, budget, left *time.Duration }

func timesOf(f sites.ProbeResult, now time.Time) times {
	var t times
	if len(f.Serial) > 0 {
		t.left = new(f.NotAfter.Sub(now))
	}
	if !f.ThisUpdate.IsZero() {
		t.age, t.horizon, t.budget = new(now.Sub(f.ThisUpdate)), &f.Age, &f.Budget
	}
	return t
}

// worse returns the smaller or the greater of two times, either of which may be missing.
func worse(a, b *time.Duration, smaller bool) *time.Duration {
	if a == nil || b != nil && (*b < *a) == smaller {
		return b
	}
	return a
}

// seconds returns whole seconds; nil: there are none.
func seconds(d *time.Duration) any {
	if d == nil {
		return nil
	}
	return d.Truncate(time.Second).Seconds()
}

func life(d *time.Duration) string {
	if d == nil {
		return "-"
	}
	return cli.Span(d.Truncate(time.Second))
}

// answer returns the answer for one issuer that the site is certified for.
func answer(f sites.ProbeResult, now time.Time) cli.Record {
	t := timesOf(f, now)
	return cli.Record{
		cli.F("issuer", "", f.Issuer), cli.F("serial", "", f.Serial), cli.F("not_after", "", f.NotAfter), cli.F("certificate_seconds_left", "", seconds(t.left)),
		cli.F("verdict", "", f.Result), cli.F("detail", "", cli.OrNil(f.Detail)),
		cli.F("this_update", "", f.ThisUpdate), cli.F("next_update", "", f.NextUpdate),
		cli.F("age_seconds", "", seconds(t.age)), cli.F("horizon_age_seconds", "", seconds(t.horizon)), cli.F("outage_budget_seconds", "", seconds(t.budget)),
		cli.F("took_seconds", "", f.Took.Round(time.Microsecond).Seconds()),
	}
}
