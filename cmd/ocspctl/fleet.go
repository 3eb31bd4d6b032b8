package main

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/db"
	"ocspfleet/ops/fleet"

	"github.com/spf13/cobra"
)

// followPause is how often fleet status --follow asks again.
const followPause = 2 * time.Second

func (p *program) fleetStatusCommand() *cobra.Command {
	var timeout, maxAge time.Duration
	var follow bool
	status := p.Command("status", "ask every active site, as a client would; exit code 3 when one is not well", `
		ocspctl fleet status
		ocspctl fleet status --follow
		ocspctl fleet status --follow --output json >> fleet.ndjson
		ocspctl fleet status --timeout 3s --max-age 1m --output json`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			if timeout <= 0 {
				return cli.Usagef("--timeout %s: want more than 0", timeout)
			}
			if maxAge <= 0 {
				return cli.Usagef("--max-age %s: want more than 0", maxAge)
			}
			v := fleet.Surveyor{Timeout: timeout, MaxAge: maxAge, Now: p.Now}
			if follow {
				return p.fleetFollow(ctx, v)
			}
			return p.fleetStatus(ctx, v)
		})
	status.Long = `VERDICT is ok, unreachable, refused, wrong, no certificate, behind (its knowledge is
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
terminal each round is drawn over the last one; --output json writes one object a line.`
	status.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long to wait for one answer")
	status.Flags().DurationVar(&maxAge, "max-age", fleet.DefaultMaxAge, "how old a site's knowledge may be")
	status.Flags().BoolVar(&follow, "follow", false, "ask again every 2 s until interrupted")
	return status
}

// fleetSite is a site as fleet status shows it. Of several issuers the worst counts.
type fleetSite struct {
	Name      string       `json:"name"`
	URL       string       `json:"url"`
	State     string       `json:"state"`
	Well      bool         `json:"well"`
	Mode      *string      `json:"mode"`         // logical or feed; null: the master knows of neither
	Source    *string      `json:"source"`       // master or peers; null: nothing comes
	FeedSeen  *string      `json:"feed_seen_at"` // when it asked the master for the feed last
	Streaming *bool        `json:"streaming"`    // the site reads its slot now
	Behind    *uint64      `json:"behind_bytes"`
	Outdated  bool         `json:"outdated"` // it cannot read key sets with keys for corrections
	Position  *int64       `json:"position"` // the last change it surely holds; null: no answer
	Horizon   *float64     `json:"horizon_age_seconds"`
	Budget    *float64     `json:"outage_budget_seconds"`
	Left      *float64     `json:"certificate_seconds_left"`
	Verdict   string       `json:"verdict"` // not_asked, the worst of the answers, or forked
	Detail    *string      `json:"detail"`
	Answers   []siteAnswer `json:"answers"` // one per issuer it is certified for; none when it is not active
}

type siteAnswer struct {
	Issuer     string   `json:"issuer"`
	Serial     *string  `json:"serial"` // of the site's certificate, which it was asked for
	NotAfter   *string  `json:"not_after"`
	Left       *float64 `json:"certificate_seconds_left"`
	Verdict    string   `json:"verdict"` // ok, unreachable, refused, wrong, no_certificate, behind
	Detail     *string  `json:"detail"`
	ThisUpdate *string  `json:"this_update"`
	NextUpdate *string  `json:"next_update"`
	Age        *float64 `json:"age_seconds"` // now - thisUpdate
	Horizon    *float64 `json:"horizon_age_seconds"`
	Budget     *float64 `json:"outage_budget_seconds"`
	Took       float64  `json:"took_seconds"`
}

func seconds(d time.Duration) *float64 { return new(d.Truncate(time.Second).Seconds()) }

// fleetView is one round of questions.
type fleetView struct {
	At     string      `json:"asked_at"`
	Sites  []fleetSite `json:"sites"`
	Forks  []forkView  `json:"forks"`
	MaxAge float64     `json:"max_age_seconds"`
	Master *string     `json:"master"` // why it could not be asked; null: it was
}

func (v fleetView) tell(t *cli.Table) {
	t.Row("SITE", "VERDICT", "MODE", "BEHIND", "POSITION", "HORIZON", "BUDGET", "CERTIFICATE", "DETAIL")
	for _, site := range v.Sites {
		site.tell(t)
	}
	for _, f := range v.Forks {
		t.Line(f.text())
	}
}

func (p *program) fleetStatus(ctx context.Context, v fleet.Surveyor) error {
	view, err := p.fleetRound(ctx, v)
	if err != nil && view == nil {
		return err
	}
	return cmp.Or(p.Print(view, view.tell), err)
}

// fleetFollow asks until it is interrupted, which is no error. On a terminal each round
// is drawn over the last one.
func (p *program) fleetFollow(ctx context.Context, v fleet.Surveyor) error {
	p.OneLine = true
	var last error
	for {
		view, err := p.fleetRound(ctx, v)
		switch {
		case ctx.Err() != nil:
			return last
		case view == nil:
			return err
		}
		if last = err; p.Output == "table" && p.Screen.Draws() {
			err = p.Screen.Draw(p.picture(*view, last))
		} else {
			err = p.Print(view, func(t *cli.Table) {
				t.Line(view.At)
				view.tell(t)
				t.Line("")
			})
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

// picture is a round for the screen: when, what is wrong, the sites.
func (p *program) picture(v fleetView, wrong error) string {
	said := "every site is well"
	if wrong != nil {
		said = wrong.Error()
	}
	return p.Draft(func(t *cli.Table) {
		t.Line(v.At + "  " + said)
		v.tell(t)
	})
}

// fleetRound asks every site once. Where a site is not well, the error says so beside
// the view; without a view it could not ask.
func (p *program) fleetRound(ctx context.Context, v fleet.Surveyor) (*fleetView, error) {
	sites, found, err := p.survey(ctx, v)
	away := (*masterAway)(nil)
	if err != nil && !errors.As(err, &away) {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, ctx.Err() // answers that were broken off say nothing about the sites
	}
	now := p.Now()
	view := &fleetView{cli.Stamp(now), make([]fleetSite, len(sites)), []forkView{}, v.MaxAge.Seconds(), cli.TextOrNil(away.detail())}
	var ill []string
	for i, s := range sites {
		view.Sites[i] = viewSite(s, now)
		if !s.Well() {
			ill = append(ill, s.Name)
		}
	}
	proven := 0
	for _, f := range found {
		view.Forks = append(view.Forks, viewFork(f))
		if f.Proven {
			proven++
		}
	}
	switch {
	case away != nil:
		return view, cli.Wrongf("%s; %s of %s sites not well", away.detail(), strconv.Itoa(len(ill)), strconv.Itoa(len(sites)))
	case proven > 0:
		return view, cli.Wrongf("the feed is forked: a key was stolen, or two masters publish (docs/feed-keys.md)")
	case len(ill) > 0:
		return view, cli.Wrongf("%s of %s sites not well: %s", strconv.Itoa(len(ill)), strconv.Itoa(len(sites)), strings.Join(ill, ", "))
	}
	return view, nil
}

func viewSite(s fleet.SiteStatus, now time.Time) fleetSite {
	v := fleetSite{Name: s.Name, URL: s.URL, State: string(s.State), Well: s.Well(), Verdict: "not_asked", Answers: []siteAnswer{}}
	if s.Slot != nil {
		v.Streaming, v.Behind = &s.Slot.Streaming, &s.Slot.Behind
	}
	v.Mode, v.Source = cli.TextOrNil(s.Mode()), cli.TextOrNil(s.Source())
	if s.Feed != nil {
		v.FeedSeen = cli.StampOrNil(s.Feed.SeenAt)
	}
	for n, f := range s.Results {
		a := viewAnswer(f, now)
		v.Answers = append(v.Answers, a)
		if n == 0 || v.Verdict == string(fleet.ResultOK) && a.Verdict != v.Verdict {
			v.Verdict, v.Detail = a.Verdict, a.Detail
			if a.Detail != nil && a.Issuer != "" {
				v.Detail = new(a.Issuer + ": " + *a.Detail)
			}
		}
		if f.Position > 0 && (v.Position == nil || f.Position < *v.Position) {
			v.Position = new(f.Position)
		}
		v.Horizon = worse(v.Horizon, a.Horizon, false)
		v.Budget = worse(v.Budget, a.Budget, true)
		v.Left = worse(v.Left, a.Left, true)
	}
	if s.Fork != "" && v.Verdict == string(fleet.ResultOK) {
		v.Verdict, v.Detail = string(fleet.ResultForked), new(s.Fork)
	}
	if v.Outdated = s.Outdated(); v.Outdated && v.Detail == nil {
		v.Detail = new("it cannot read keys for corrections yet: upgrade it before the root names the first")
	}
	if v.Detail == nil && s.Slot != nil {
		switch {
		case s.Slot.Lost:
			v.Detail = new("its slot is lost: it will be seeded anew")
		case !s.Slot.Streaming:
			v.Detail = new("it does not stream")
		}
	}
	return v
}

// worse is the smaller or the greater of two numbers, either of which may be missing.
func worse(a, b *float64, smaller bool) *float64 {
	if a == nil || b != nil && (*b < *a) == smaller {
		return b
	}
	return a
}

func viewAnswer(f fleet.ProbeResult, now time.Time) siteAnswer {
	a := siteAnswer{
		Issuer: f.Issuer, Verdict: string(f.Result), Detail: cli.TextOrNil(f.Detail), NotAfter: cli.StampOrNil(f.NotAfter),
		ThisUpdate: cli.StampOrNil(f.ThisUpdate), NextUpdate: cli.StampOrNil(f.NextUpdate), Took: f.Took.Round(time.Microsecond).Seconds(),
	}
	if len(f.Serial) > 0 {
		a.Serial = new(f.Serial.String())
		a.Left = seconds(f.NotAfter.Sub(now))
	}
	if !f.ThisUpdate.IsZero() {
		a.Age, a.Horizon, a.Budget = seconds(now.Sub(f.ThisUpdate)), seconds(f.Age), seconds(f.Budget)
	}
	return a
}

func (v fleetSite) tell(t *cli.Table) {
	// A site that is not active is not asked: its state is all there is to say.
	verdict, mode, behind, position := strings.ReplaceAll(v.Verdict, "_", " "), cli.OrDash(v.Mode), "-", "-"
	if v.State != string(db.ResponderActive) {
		verdict = v.State
	}
	if v.Source != nil && *v.Source != "master" {
		mode += " by " + *v.Source
	}
	if v.Behind != nil {
		behind = strconv.FormatUint(*v.Behind/1024, 10) + " KiB"
	}
	if v.Position != nil {
		position = strconv.FormatInt(*v.Position, 10)
	}
	life := func(n *float64) string {
		if n == nil {
			return "-"
		}
		return cli.Span(time.Duration(*n) * time.Second)
	}
	t.Row(v.Name, verdict, mode, behind, position, life(v.Horizon), life(v.Budget), life(v.Left), cli.OrDash(v.Detail))
}
