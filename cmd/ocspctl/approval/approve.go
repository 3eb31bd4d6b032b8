package approval

import (
	"context"
	"fmt"
	"strconv"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/keyset"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/sync/feed"
)

// decision is a decision on one request.
type decision struct {
	cli.Change
	Text string `arg:"ID"`

	id int64
}

// Check reads the number of the request.
func (d *decision) Check() (err error) {
	if d.id, err = strconv.ParseInt(d.Text, 10, 64); err != nil || d.id < 1 {
		return cli.Usagef("%q: want the number of a request (ocspctl approval list)", d.Text)
	}
	return nil
}

// decide acts on the request, with --apply, and shows it.
func (d *decision) decide(ctx context.Context, m *ctl.Master, do func(act db.Act) error) error {
	act, err := ctl.Act(d.Change)
	if err != nil {
		return err
	}
	if d.Apply {
		if err := do(act); err != nil {
			return err
		}
	}
	a, err := m.Store.Approval(ctx, d.id)
	if err != nil {
		return err
	}
	issuers, err := m.Store.Issuers(ctx)
	if err != nil {
		return err
	}
	r := newRequest(a, issuers, m.Now())
	outcome := d.Outcome(d.Apply || r.state == "open")
	return m.Show(cli.Quiet(outcome), cli.Quiet(cli.Object("request", r.record())), cli.Said(r.tell), cli.Said(func(t *cli.Table) {
		if !d.Apply && r.state != "open" {
			t.Line("Nothing was done: it is " + r.state + ".")
			return
		}
		outcome.Tell(t)
	}))
}

// approve is approve.
type approve struct {
	decision
	Key string `flag:"key" help:"your key for corrections: a <FILE> that ocspctl feed key generate made"`
}

func (approve) Doc() cli.Doc {
	return cli.Doc{
		Name: "approve", Short: "agree to another operator's request; it is carried out at once",
		Long: `Without --apply the request is shown. With it a correction or another crl_url is
made in one transaction, an allowance given to the login that it names, and what a
master lost may be entered (feed recover, fleet lost): run that yourself first, and
compare the sum. Your login must be another one than the requester's, and an operator's; both stay in the audit.

Where permanent revocations are taken back, --key signs that: sites believe it by this
signature alone. The key is yours; the key set in force names it for corrections
(ocspctl feed keys sign --correct). Keep it with you, not at the master.`,
		Example: `
		ocspctl approve 7
		ocspctl approve 7 --key /media/bert/correct.key --why 'checked with the holder by telephone' --apply`,
	}
}

func (v *approve) Run(ctx context.Context, m *ctl.Master) error {
	var notes []db.SignedCorrection
	if v.Key != "" {
		var err error
		if notes, err = v.sign(ctx, m); err != nil {
			return err
		}
	}
	return v.decide(ctx, m, func(act db.Act) error { return m.Store.Approve(ctx, v.id, act, notes...) })
}

// sign signs what the second person agrees to, with this person's key.
func (v *approve) sign(ctx context.Context, m *ctl.Master) ([]db.SignedCorrection, error) {
	a, err := m.Store.Approval(ctx, v.id)
	if err != nil {
		return nil, err
	}
	if a.Act != masterdb.ApprovalCorrect {
		return nil, cli.Usagef("--key: request %d is no correction: there is nothing to sign", v.id)
	}
	set, err := keyset.InForce(ctx, m.Store, m.Config)
	if err != nil {
		return nil, err
	}
	key, err := feed.LoadKey(v.Key, set.Origin)
	if err != nil {
		return nil, err
	}
	issuers, err := m.Store.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	for _, issuer := range issuers {
		if issuer.ID == a.Issuer {
			note := feed.CorrectionNote{Origin: set.Origin, Issuer: issuer.Key, Wrong: a.Wrong, NotAfter: a.NotAfter, CorrectedAt: a.CorrectedAt}
			return set.SignCorrections(key, note.Notes(a.Taken))
		}
	}
	return nil, fmt.Errorf("request %d is of issuer %d, which is not here", v.id, a.Issuer)
}

// refuse is approval refuse.
type refuse struct{ decision }

func (refuse) Doc() cli.Doc {
	return cli.Doc{
		Name: "refuse", Short: "do not agree to a request, or take back one's own",
		Long: `Without --apply the request is shown. With it the request is closed: nobody can
approve it any more, and who refused it and why stays in the audit. The requester
may do so, too, as long as nobody has approved it. Your login must be an operator's.`,
		Example: `
		ocspctl approval refuse 7
		ocspctl approval refuse 7 --why 'the holder says that the key did leak' --apply`,
	}
}

// Check also requires a reason.
func (v *refuse) Check() error {
	if err := v.decision.Check(); err != nil {
		return err
	}
	return v.WantWhy("a refusal")
}

func (v *refuse) Run(ctx context.Context, m *ctl.Master) error {
	return v.decide(ctx, m, func(act db.Act) error { return m.Store.Refuse(ctx, v.id, act) })
}
