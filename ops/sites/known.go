package sites

import (
	"context"
	"fmt"
	"maps"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// DefaultMaxAge is how old a site's copy may be before the site counts as not following: a site
// that follows is some seconds behind.
const DefaultMaxAge = 5 * time.Minute

// Known is what the master knows of the sites before they are asked. It can be stored, for use
// when the master is away.
type Known struct {
	At      time.Time // when the master was asked; zero: it was not, this was stored
	AsOf    time.Time // the master's own horizon
	Sites   []masterdb.Responder
	Issuers []db.Issuer
	Revoked map[db.IssuerID]db.Serial // the last permanent revocation that is older than the Surveyor's MaxAge

	slots   []db.Slot
	clients map[string]db.FeedClient
	forks   map[string]string
}

// Learn asks the master.
func (v Surveyor) Learn(ctx context.Context, store *masterdb.DB) (Known, error) {
	defer v.defaults()()
	k := Known{At: v.Now()}
	head, err := store.Head(ctx)
	if err != nil {
		return k, err
	}
	k.AsOf = head.AsOf
	if k.Sites, err = store.Responders(ctx); err != nil {
		return k, err
	}
	if k.Issuers, err = store.Issuers(ctx); err != nil {
		return k, err
	}
	if k.slots, err = store.SiteSlots(ctx); err != nil {
		return k, err
	}
	if k.clients, err = store.FeedClients(ctx); err != nil {
		return k, err
	}
	if k.Revoked, err = store.LastRevocations(ctx, v.MaxAge); err != nil {
		return k, err
	}
	forks, err := store.ReportedForks(ctx)
	k.forks = map[string]string{}
	for _, f := range forks {
		k.forks[f.From] = f.Why
	}
	return k, err
}

// Settled removes the forks of the sites for which keep is false: a key set ended them.
func (k *Known) Settled(keep func(site string) bool) {
	maps.DeleteFunc(k.forks, func(site, _ string) bool { return !keep(site) })
}

// site returns what the master knows of one site.
func (k Known) site(r masterdb.Responder, now time.Time) Status {
	s := Status{Responder: r, Slot: slotOf(r.Name, k.slots)}
	if r.State == db.ResponderActive {
		s.Fork = k.forks[r.Name]
	}
	if r.FeedPin != nil && !k.At.IsZero() {
		client := k.clients[r.Name]
		s.Feed = &FeedLink{Direct: now.Sub(client.SeenAt) < directFor, SeenAt: client.SeenAt, Position: client.Position, Form: client.Form}
	}
	return s
}

// compare finds the sites that do not follow: their copy is older than MaxAge, or, while the
// master is away, older by MaxAge than the newest site's.
func (v Surveyor) compare(known Known, sites []Status) {
	least := time.Duration(0)
	if known.At.IsZero() {
		least = youngest(sites)
	}
	for i := range sites {
		for n := range sites[i].Results {
			f := &sites[i].Results[n]
			if f.Result != ResultOK || f.Age-least <= v.MaxAge {
				continue
			}
			f.Result = ResultBehind
			f.Detail = fmt.Sprintf("its knowledge is %s old, %s is allowed (--max-age): %s", f.Age.Round(time.Second), v.MaxAge, v.cause(known, sites[i]))
		}
	}
}

func youngest(sites []Status) time.Duration {
	least := time.Duration(-1)
	for _, s := range sites {
		for _, f := range s.Results {
			if f.Result == ResultOK && (least < 0 || f.Age < least) {
				least = f.Age
			}
		}
	}
	return max(0, least)
}

// cause returns why a site does not follow, as far as the master can see, and what to do.
func (v Surveyor) cause(known Known, s Status) string {
	switch {
	case known.At.IsZero():
		return "another site knows more"
	case known.At.Sub(known.AsOf) > v.MaxAge:
		return "the master's own clock mark is as old: is its ocspsyncd running?"
	case s.Slot != nil && s.Slot.Lost:
		return "its slot is lost: it will be seeded anew; see ocspsyncd there"
	case s.Slot != nil && !s.Slot.Streaming:
		return "nobody reads its slot: see ocspsyncd and PostgreSQL's log there (ocspctl doctor)"
	case s.Slot != nil:
		return "its slot is read, its ocspd does not follow: see its /readyz (ocspctl doctor there)"
	case s.Feed != nil && !s.Feed.Direct:
		return "the master has not seen it for five minutes: see ocspsyncd there (ocspctl doctor)"
	case s.Feed != nil:
		return "it asks the master, its ocspd does not follow: see its /readyz (ocspctl doctor there)"
	}
	return "the master knows neither a slot of its name nor a feed pin (ocspctl responder set)"
}
