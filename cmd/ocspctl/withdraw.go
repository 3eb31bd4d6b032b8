package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/fleet"

	"github.com/spf13/cobra"
)

// withdraw holds the flags of responder revoke, suspend, restore and leave.
type withdraw struct {
	change
	site   string
	action string // revoke, suspend, restore or leave
	reason string // of revoke
	force  bool
	byHand bool // of leave
}

func (p *program) responderRevokeCommand() *cobra.Command {
	w := withdraw{action: "revoke"}
	cmd := p.Command("revoke SITE", "revoke all certificates of a site for ever, ban its keys, and end its access", `
		ocspctl responder revoke site-b --reason keyCompromise
		ocspctl responder revoke site-b --reason keyCompromise --why 'broken into on Sunday' --apply`,
		cobra.ExactArgs(1), p.withdrawal(&w))
	cmd.Flags().StringVar(&w.reason, "reason", "", "the `NAME` of RFC 5280: keyCompromise, cessationOfOperation, superseded, ...")
	cmd.Flags().BoolVar(&w.force, "force", false, "do it even to the last healthy site, and to the last address of a name")
	w.flags(cmd)
	require(cmd, "reason")
	return cmd
}

func (p *program) responderSuspendCommand() *cobra.Command {
	w := withdraw{action: "suspend"}
	cmd := p.Command("suspend SITE", "take a site out until it is restored: certificates on hold, access closed", `
		ocspctl responder suspend site-b
		ocspctl responder suspend site-b --why 'the partner investigates' --apply`,
		cobra.ExactArgs(1), p.withdrawal(&w))
	cmd.Flags().BoolVar(&w.force, "force", false, "do it even to the last healthy site, and to the last address of a name")
	w.flags(cmd)
	return cmd
}

func (p *program) responderRestoreCommand() *cobra.Command {
	w := withdraw{action: "restore"}
	cmd := p.Command("restore SITE", "bring a suspended site back", `
		ocspctl responder restore site-b
		ocspctl responder restore site-b --why 'nothing was found' --apply`,
		cobra.ExactArgs(1), p.withdrawal(&w))
	cmd.Flags().BoolVar(&w.force, "force", false, "publish its addresses even if it does not answer by them")
	w.flags(cmd)
	return cmd
}

func (p *program) responderLeaveCommand() *cobra.Command {
	w := withdraw{action: "leave"}
	cmd := p.Command("leave SITE", "take a site off the fleet in peace: out of the DNS, then its access ends", `
		ocspctl responder leave site-b
		ocspctl responder leave site-b --why 'the contract ends' --apply
		ocspctl responder leave site-b --withdrawn --apply`,
		cobra.ExactArgs(1), p.withdrawal(&w))
	cmd.Flags().BoolVar(&w.force, "force", false, "do it even to the last healthy site, and to the last address of a name")
	cmd.Flags().BoolVar(&w.byHand, "withdrawn", false, "its addresses left the DNS by hand, and their TTL is over")
	w.flags(cmd)
	return cmd
}

func (p *program) withdrawal(w *withdraw) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		w.site = args[0]
		return p.atMaster(ctx, func(store *masterdb.DB, cfg *config.Config) error { return p.withdraw(ctx, store, cfg, *w) })
	}
}

// withdrawn is what the verbs print.
type withdrawn struct {
	cli.Outcome
	Site         string            `json:"site"`
	State        string            `json:"state"`
	Reason       *string           `json:"reason"`
	Steps        []stepView        `json:"steps"`
	Certificates []siteCertificate `json:"certificates"` // unexpired ones; without --apply as they are now
}

type stepView struct {
	Step   string  `json:"step"`
	Plan   string  `json:"plan"`
	Result *string `json:"result"` // null: not done
	Fault  *string `json:"fault"`  // why it, or a part of it, could not be done
}

func (p *program) withdraw(ctx context.Context, store *masterdb.DB, cfg *config.Config, w withdraw) error {
	reason := db.ReasonNone
	if w.action == "revoke" {
		var err error
		if reason, err = db.ParseReason(w.reason); err != nil {
			return cli.Usagef("--reason: %v", err)
		}
		if reason == db.ReasonCertificateHold {
			return cli.Usagef("--reason certificateHold: a site is revoked for ever (for a time: responder suspend)")
		}
	}
	act, err := w.act()
	if err != nil {
		return err
	}
	view, err := p.site(ctx, store, w.site)
	if err != nil {
		return err
	}
	if w.action != "restore" && !w.force {
		if err := (fleet.Surveyor{Timeout: 3 * time.Second, Now: p.Now}).CheckNotLast(ctx, store, w.site); err != nil {
			return err
		}
	}
	crl, err := p.crlStep(ctx, store, cfg, view, act)
	if err != nil {
		return err
	}
	run := fleet.Lifecycle{Store: store, Site: w.site, Act: act, CRL: crl, DNS: p.forWithdrawal(cfg.DNS, w.force), ByHand: w.byHand}
	if !w.apply {
		if err := store.Try(ctx, false, func(store *masterdb.DB) error { return w.rows(ctx, store, reason, act) }); err != nil {
			return err
		}
		// Doing it must not wait for a zone that does not answer.
		if run, err = run.Preview(ctx, w.action == "restore"); err != nil {
			return err
		}
	}
	steps := map[string][]fleet.Step{"revoke": run.Revoke(reason), "suspend": run.Suspend(), "restore": run.Restore(), "leave": run.Leave()}[w.action]
	return p.runWithdrawal(ctx, store, w, run, steps, reason)
}

// rows does what the verb does to the master's rows: the one step that can be tried.
func (w withdraw) rows(ctx context.Context, store *masterdb.DB, reason db.Reason, act db.Act) error {
	var err error
	switch w.action {
	case "revoke":
		_, err = store.RevokeResponder(ctx, w.site, reason, act)
	case "suspend":
		_, err = store.SuspendResponder(ctx, w.site, act)
	case "leave":
		_, err = store.LeaveResponder(ctx, w.site, act)
	default:
		_, err = store.RestoreResponder(ctx, w.site, act)
	}
	return err
}

// runWithdrawal does the steps, or only shows them. A step that fails leaves the
// earlier ones done, and shown.
func (p *program) runWithdrawal(ctx context.Context, store *masterdb.DB, w withdraw, run fleet.Lifecycle, steps []fleet.Step, reason db.Reason) error {
	var failed error
	if w.apply {
		failed = run.Run(ctx, steps, func(fleet.Step) {})
	}
	view, err := p.site(ctx, store, w.site)
	if err != nil {
		return err
	}
	result := withdrawn{
		Outcome: cli.NewOutcome("responder "+w.action, w.apply && failed == nil, true), Site: w.site, State: view.State, Reason: cli.TextOrNil(reason.String()),
		Certificates: slices.DeleteFunc(view.Certificates, func(c siteCertificate) bool { return c.Expired }),
	}
	for _, s := range steps {
		result.Steps = append(result.Steps, stepView{s.Name, s.Plan, cli.TextOrNil(s.Result), cli.TextOrNil(s.Fault)})
	}
	if err := p.Print(result, result.tell); err != nil {
		return err
	}
	return failed
}

func (r withdrawn) tell(t *cli.Table) {
	t.Row("site", r.Site)
	t.Row("state", r.State)
	if r.Reason != nil {
		t.Row("reason", *r.Reason)
	}
	t.Line("")
	done := tellSteps(t, r.Steps)
	t.Line("")
	t.Row("ISSUER", "SERIAL", "STATUS", "NOT AFTER")
	for _, c := range r.Certificates {
		t.Row(c.Issuer, c.Serial, c.tellStatus(), cli.OrDash(c.NotAfter))
	}
	if r.State == string(db.ResponderLeft) && len(r.Certificates) > 0 {
		t.Line("Whoever has its key can sign until the last of these ends: have it deleted at the site (docs/identities.md, A partner leaves). If nobody there can be trusted with that: responder revoke --reason cessationOfOperation.")
	}
	if done {
		r.Outcome.Tell(t)
	} else {
		t.Line(runAgain)
	}
}

// runAgain ends what a command says of steps of which one failed.
const runAgain = "Not all of it is done: run the same command again."

// tellSteps shows steps, and says whether none failed.
func tellSteps(t *cli.Table, steps []stepView) bool {
	done := true
	t.Row("STEP", "WHAT", "RESULT")
	for _, s := range steps {
		result := cli.OrDash(s.Result)
		if s.Fault != nil {
			result = strings.TrimPrefix(result+"; ", "-; ") + "NOT DONE: " + *s.Fault
			done = false
		}
		t.Row(s.Step, s.Plan, result)
	}
	return done
}
