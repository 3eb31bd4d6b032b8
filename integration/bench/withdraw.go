package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/devfleet"
	"ocspfleet/ops/sites"

	"golang.org/x/crypto/ocsp"
	"golang.org/x/sync/errgroup"
)

// withdrawals times what takes a site out, in a fleet of three: one by the feed, one
// by native replication, one by the feed from a peer alone. Each is suspended in
// turn by the steps of `responder suspend` and restored by those of `responder
// restore`; that is the way of `responder revoke`, but that the site can be used
// again. Then the same with profile br, which knows no hold; at the end two are revoked.
func withdrawals(ctx context.Context, o options) ([]row, error) {
	f, err := devfleet.Up(ctx, devfleet.Options{Dir: ".run-bench", Bin: "bin", Sites: 3, BasePort: o.basePort, Progress: os.Stderr})
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Down(context.WithoutCancel(ctx)) }()
	master, err := masterdb.Open(ctx, tables.Config{DSN: f.Master.DSN})
	if err != nil {
		return nil, err
	}
	defer master.Close()
	w := &withdrawing{f, master, map[way][]time.Duration{}, map[way][]time.Duration{}}
	for n := range o.withdrawals {
		if err := w.round(ctx, f.Sites, n%len(f.Sites), suspended); err != nil {
			return nil, fmt.Errorf("round %d: %w", n+1, err)
		}
	}
	if err := w.withoutHold(ctx); err != nil {
		return nil, err
	}
	for n := range o.withdrawals / 3 {
		if err := w.round(ctx, f.Sites, n%len(f.Sites), withheld); err != nil {
			return nil, fmt.Errorf("round %d without hold: %w", n+1, err)
		}
	}
	if err := errors.Join(w.round(ctx, f.Sites, 2, revoked), w.round(ctx, f.Sites[:2], 1, revoked)); err != nil {
		return nil, err
	}
	var rows []row
	for _, how := range []way{suspended, withheld, revoked} {
		rows = append(rows, percentiles(string(how)+": commit to nothing good from the site", w.stopped[how])...)
		rows = append(rows, percentiles(string(how)+": commit to all others say revoked", w.told[how])...)
	}
	return rows, nil
}

// way is how a site is taken out.
type way string

const (
	suspended way = "suspended"
	withheld  way = "suspended, profile br" // no hold: nobody else says anything
	revoked   way = "revoked, profile br"
)

// withoutHold gives both issuers profile br, and the sites certificates of it.
func (w *withdrawing) withoutHold(ctx context.Context) error {
	issuers, err := w.master.Issuers(ctx)
	if err != nil {
		return err
	}
	for _, issuer := range issuers {
		var held []db.Serial
		err := w.master.List(ctx, tables.Choice{Issuer: issuer.ID, Kind: tables.KindHold}, func(_ db.IssuerID, serial db.Serial, _ db.Status) error {
			held = append(held, slices.Clone(serial))
			return nil
		})
		if err != nil {
			return err
		}
		for _, serial := range held {
			if _, err := w.master.Release(ctx, issuer.ID, serial, act); err != nil {
				return err
			}
		}
		issuer.Policy.Profile = db.ProfileBR
		if _, err := w.master.SetIssuer(ctx, issuer, act); err != nil {
			return err
		}
	}
	for _, site := range w.f.Sites {
		if out, err := w.f.Ctl(ctx, "responder", "renew", site.Name, "--apply"); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

// withdrawing gathers how long each round took.
type withdrawing struct {
	f             *devfleet.Fleet
	master        *masterdb.DB
	stopped, told map[way][]time.Duration
}

// percentiles makes rows of what was measured.
func percentiles(what string, took []time.Duration) []row {
	if len(took) == 0 {
		return nil
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return []row{
		{what + ", rounds", float64(len(took)), ""},
		{what + ", p50", ms(took[len(took)/2]), "ms"},
		{what + ", p99", ms(took[len(took)*99/100]), "ms"},
		{what + ", worst", ms(took[len(took)-1]), "ms"},
	}
}

// question is a request for a site.
type question struct {
	site devfleet.Site
	der  []byte
}

// questions are what the victim must stop saying good to, and what each other site
// must say revoked to: the serial of the victim's certificate, for each issuer.
func (w *withdrawing) questions(ctx context.Context, sites []devfleet.Site, victim int) (own, others []question, err error) {
	for _, issuer := range w.f.Issuers {
		answer, err := w.f.Ask(ctx, sites[victim], issuer, issuer.Serials.Good[0])
		if err != nil {
			return nil, nil, err
		}
		good, err := requestFor(w.f, issuer, db.SerialFromMagnitude(answer.SerialNumber.Bytes(), false))
		if err != nil {
			return nil, nil, err
		}
		own = append(own, question{sites[victim], good})
		responder, err := requestFor(w.f, issuer, db.SerialFromMagnitude(answer.Certificate.SerialNumber.Bytes(), false))
		if err != nil {
			return nil, nil, err
		}
		for i, site := range sites {
			if i != victim {
				others = append(others, question{site, responder})
			}
		}
	}
	return own, others, nil
}

// awaitEach asks until each answer is as it must be, and returns how long that took.
func awaitEach(ctx context.Context, list []question, is func(*ocsp.Response, error) bool) (time.Duration, error) {
	began := time.Now()
	for _, q := range list {
		for {
			answer, err := post(ctx, q.site.URL, q.der)
			if is(answer, err) {
				break
			}
			if time.Since(began) > time.Minute || ctx.Err() != nil {
				return 0, fmt.Errorf("site %s never came to it: %w", q.site.Name, errors.Join(err, ctx.Err()))
			}
			time.Sleep(askEvery)
		}
	}
	return time.Since(began), nil
}

func says(status int) func(*ocsp.Response, error) bool {
	return func(answer *ocsp.Response, err error) bool { return err == nil && answer.Status == status }
}

// refused says that a site signs nothing: an answer without a signature.
func refused(_ *ocsp.Response, err error) bool {
	var refusal ocsp.ResponseError
	return errors.As(err, &refusal)
}

// round takes one of the sites out, times it, and unless it is revoked takes it in again.
func (w *withdrawing) round(ctx context.Context, all []devfleet.Site, victim int, how way) error {
	for _, site := range all {
		if err := w.well(ctx, site); err != nil {
			return err
		}
	}
	own, others, err := w.questions(ctx, all, victim)
	if err != nil {
		return err
	}
	if _, err := awaitEach(ctx, others, says(ocsp.Good)); err != nil {
		return err
	}
	out := sites.Lifecycle{Store: w.master, Site: all[victim].Name, Act: act}
	steps := out.Suspend()
	switch how {
	case revoked:
		steps = out.Revoke(db.ReasonKeyCompromise)
	case withheld:
		others = nil
	}
	stopped, told, err := w.time(ctx, out, steps, own, others)
	if err != nil {
		return err
	}
	w.stopped[how] = append(w.stopped[how], stopped)
	if how != withheld {
		w.told[how] = append(w.told[how], told)
	}
	if how == revoked {
		return nil
	}
	return out.Run(ctx, out.Restore(), func(sites.Step) {})
}

// time does the steps and, from the commit of the first, asks all sites meanwhile.
func (w *withdrawing) time(ctx context.Context, out sites.Lifecycle, steps []sites.Step, own, others []question) (stopped, told time.Duration, err error) {
	group, ctx := errgroup.WithContext(ctx)
	err = out.Run(ctx, steps, func(s sites.Step) {
		if s.Name != "certificates" {
			return
		}
		group.Go(func() (err error) {
			stopped, err = awaitEach(ctx, own, refused)
			return err
		})
		group.Go(func() (err error) {
			told, err = awaitEach(ctx, others, says(ocsp.Revoked))
			return err
		})
	})
	return stopped, told, errors.Join(err, group.Wait())
}

// well waits until a site answers good with a signature that verifies.
func (w *withdrawing) well(ctx context.Context, site devfleet.Site) error {
	for _, issuer := range w.f.Issuers {
		if _, err := w.f.AwaitStatus(ctx, site, issuer, issuer.Serials.Good[0], ocsp.Good, time.Minute); err != nil {
			return err
		}
	}
	return nil
}
