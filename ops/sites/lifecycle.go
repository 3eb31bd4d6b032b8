package sites

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// Lifecycle takes a site out of the fleet, or back in. It is a list of steps, each of which may be
// repeated: after an interruption it is simply run again.
type Lifecycle struct {
	Store *masterdb.DB
	Site  string
	Act   db.Act
	// CRL issues the CRLs again and returns which; nil: the CA's key is not here.
	CRL func(context.Context) (string, error)
	// Patience is how long a running stream may take to bring the site its own revocation, so that
	// an honest site stops by itself, before the stream is cut. An attacker in a site gains no
	// more than that. 0: 2 s.
	Patience time.Duration
	DNS      DNS // the DNS with its addresses
	// ByHand says that its addresses left the DNS by hand, and their TTL is over. For Leave.
	ByHand bool

	dnsPlan string       // what the zone's step would do now
	only    []netip.Addr // these addresses, instead of the roster's; nil: the roster's
	url     string       // the site's new URL; empty: the roster's

	before func(step string) error // for tests: stops before a step
}

// Step is one step of a Lifecycle.
type Step struct {
	Name   string // certificates, delivery, login, sessions, slots, dns, ttl or crl
	Plan   string // what it does
	Result string // what it did; empty: not done yet
	Fault  string // why it, or a part of it, failed; empty: no fault
	do     func(context.Context) (string, error)
	goesOn bool // its failure stops no other step
}

// Preview adds what the zone's step would do now to the plan. It asks the zone's servers and
// returns a Lifecycle whose steps show that.
func (w Lifecycle) Preview(ctx context.Context, publish bool) (Lifecycle, error) {
	var err error
	w.dnsPlan, err = w.previewDNS(ctx, publish)
	return w, err
}

// Revoke is permanent: all certificates revoked, keys banned, access closed.
func (w Lifecycle) Revoke(reason db.Reason) []Step {
	return []Step{
		{Name: "certificates", Plan: "revoke all unexpired ones for ever, ban the keys, close the feed to the site", do: func(ctx context.Context) (string, error) {
			list, err := w.Store.RevokeResponder(ctx, w.Site, reason, w.Act)
			return counted(list, "revoked"), err
		}},
		w.delivery(), w.login(false), w.sessions(), w.slots(), w.dns(false), w.crl(),
	}
}

// Suspend is the half that Restore takes back.
func (w Lifecycle) Suspend() []Step {
	return []Step{
		{Name: "certificates", Plan: "put all unexpired ones on hold, withhold those of profile br from the site, close the feed to it", do: func(ctx context.Context) (string, error) {
			list, err := w.Store.SuspendResponder(ctx, w.Site, w.Act)
			return counted(list, "on hold or withheld"), err
		}},
		w.delivery(), w.login(false), w.sessions(), w.dns(false), w.crl(),
	}
}

// Restore brings a suspended site back.
func (w Lifecycle) Restore() []Step {
	return []Step{
		{Name: "certificates", Plan: "release them from hold, give back what is withheld, open the feed to the site", do: func(ctx context.Context) (string, error) {
			list, err := w.Store.RestoreResponder(ctx, w.Site, w.Act)
			return counted(list, "given back"), err
		}},
		w.login(true), w.crl(), w.dns(true),
	}
}

// Run does the steps in their order and stops at the first failure, except at steps whose failure
// does not affect the others. It calls done after each step.
func (w Lifecycle) Run(ctx context.Context, steps []Step, done func(Step)) error {
	var faults []error
	for i := range steps {
		var err error
		if w.before != nil {
			err = w.before(steps[i].Name)
		}
		goesOn := err == nil && steps[i].goesOn
		if err == nil {
			steps[i].Result, err = steps[i].do(ctx)
		}
		if err == nil {
			done(steps[i])
			continue
		}
		steps[i].Fault = err.Error()
		if !goesOn {
			return errors.Join(append(faults, fmt.Errorf("step %d of %d (%s): %w (what was done stays; run it again)", i+1, len(steps), steps[i].Name, err))...)
		}
		faults = append(faults, fmt.Errorf("step %d of %d (%s): %w (the other steps go on; run it again)", i+1, len(steps), steps[i].Name, err))
	}
	return errors.Join(faults...)
}

func counted(list []masterdb.RevokedCertificate, done string) string {
	changed := 0
	for _, c := range list {
		if c.Changed {
			changed++
		}
	}
	return fmt.Sprintf("%d of %d %s", changed, len(list), done)
}

// delivery waits until the site has confirmed what was done: by its stream, if one runs, or by its
// next request to the feed.
func (w Lifecycle) delivery() Step {
	patience := w.Patience
	if patience == 0 {
		patience = 2 * time.Second
	}
	return Step{Name: "delivery", Plan: fmt.Sprintf("let a running stream, or the feed, bring the site the news, %s at most", patience), do: func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
		defer cancel()
		said, err := w.delivered(ctx)
		if err != nil && context.Cause(ctx) == errPatience {
			return "not confirmed in time: the site learns of it when its access fails", nil
		}
		return said, err
	}}
}

var errPatience = errors.New("the site was given its time")

func (w Lifecycle) delivered(ctx context.Context) (string, error) {
	head, err := w.Store.Head(ctx)
	if err != nil {
		return "", err
	}
	first, err := w.Store.SiteAccess(ctx, w.Site)
	for now := first; err == nil; now, err = w.Store.SiteAccess(ctx, w.Site) {
		if now.Confirmed != nil && *now.Confirmed >= first.Written {
			return "the site has it", nil
		}
		if now.Confirmed == nil {
			clients, err := w.Store.FeedClients(ctx)
			client := clients[w.Site]
			switch {
			case err != nil:
				return "", err
			case time.Since(client.SeenAt) > feedSilence:
				return "no stream runs, and the site does not ask the master's feed: it learns of it from a peer, or when its access fails", nil
			case client.Position >= head.Position:
				return "the site has it, by the feed", nil
			}
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return "", err
}

// feedSilence is the greatest time since a site's last request for the site to count as a follower
// of the feed: a long poll takes 75 s.
const feedSilence = 90 * time.Second

func (w Lifecycle) login(open bool) Step {
	plan, done := "close its replication login", "closed"
	if open {
		plan, done = "open its replication login", "opened"
	}
	return Step{Name: "login", Plan: plan, do: func(ctx context.Context) (string, error) {
		changed, err := w.Store.OpenSiteLogin(ctx, w.Site, open, w.Act)
		if err != nil {
			return "", err
		}
		a, err := w.Store.SiteAccess(ctx, w.Site)
		switch {
		case err != nil:
			return "", err
		case a.Login == "":
			return "it has none", nil
		case !changed:
			return a.Login + " is " + done + " already", nil
		}
		return a.Login + " " + done, nil
	}}
}

func (w Lifecycle) sessions() Step {
	return Step{Name: "sessions", Plan: "end its sessions at the master, running streams too", do: func(ctx context.Context) (string, error) {
		n, err := w.Store.CutSite(ctx, w.Site)
		return fmt.Sprintf("%d ended", n), err
	}}
}

func (w Lifecycle) slots() Step {
	return Step{Name: "slots", Plan: "drop its replication slots", do: func(ctx context.Context) (string, error) {
		n, err := w.Store.DropSiteSlots(ctx, w.Site)
		return fmt.Sprintf("%d dropped", n), err
	}}
}

func (w Lifecycle) crl() Step {
	return Step{Name: "crl", Plan: "issue the CRLs of responder certificates anew", do: func(ctx context.Context) (string, error) {
		if w.CRL == nil {
			return "by hand: no CA key is configured here (ocspctl crl issue --apply, where it is)", nil
		}
		return w.CRL(ctx)
	}}
}

// ErrLastSite says that without this site no site would answer any more.
var ErrLastSite = errors.New("the fleet would be left without a healthy site")

// CheckNotLast asks every active site how it is, and refuses to remove the last active one, or the
// only one that is well.
func (v Surveyor) CheckNotLast(ctx context.Context, store *masterdb.DB, site string) error {
	sites, err := v.Survey(ctx, store)
	if err != nil {
		return err
	}
	var active, others, well bool
	for _, s := range sites {
		switch {
		case s.State != db.ResponderActive:
		case s.Name == site:
			active, well = true, s.Well()
		default:
			others = true
		}
	}
	if !active {
		return nil
	}
	if !others {
		return fmt.Errorf("site %q is the last active one: %w (--force does it nevertheless)", site, ErrLastSite)
	}
	if well && !slices.ContainsFunc(sites, func(s Status) bool { return s.Name != site && s.State == db.ResponderActive && s.Well() }) {
		return fmt.Errorf("site %q is the only one that answers well: %w (mend another first, see ocspctl fleet status; --force does it nevertheless)", site, ErrLastSite)
	}
	return nil
}
