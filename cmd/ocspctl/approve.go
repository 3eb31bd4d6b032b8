package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/keyset"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/publish"

	"github.com/spf13/cobra"
)

func (p *program) approvalCommand() *cobra.Command {
	return cli.Noun("approval", "what one operator must not do alone",
		cli.Noun("request", "ask for a second person's agreement", p.approvalBulkCommand(), p.approvalForkCommand()), p.approvalListCommand(), p.approvalRefuseCommand())
}

func (p *program) approvalBulkCommand() *cobra.Command {
	var c change
	var count int64
	var login string
	cmd := p.Command("bulk", "ask for an allowance of revocations beyond the hourly limit", `
		ocspctl approval request bulk --count 500 --login ca_software --why 'incident 12: the keys of branch 7 leaked' --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *masterdb.DB, _ *config.Config) error { return p.approvalBulk(ctx, store, c, count, login) })
		})
	cmd.Long = `A login revokes at most 100 certificates an hour (or what db limit says) on one
person's word. Once another person has approved, the login that the request names
may revoke COUNT more, by cert revoke, cert hold or cert import, for 24 hours.
A program, as the CA's software, asks for nothing itself: two persons name its
login. Certificates that come in revoked and responder revoke need no allowance.`
	cmd.Flags().Int64Var(&count, "count", 0, "how many revocations (`N`)")
	cmd.Flags().StringVar(&login, "login", "", "who may revoke them: the `LOGIN` of a person or a program (default: yours)")
	c.flags(cmd)
	require(cmd, "count")
	return cmd
}

func (p *program) approvalBulk(ctx context.Context, store *masterdb.DB, c change, count int64, login string) error {
	if count < 1 || count > 1_000_000_000 {
		return cli.Usagef("--count %d: want 1 to 1000000000", count)
	}
	if c.apply && strings.TrimSpace(c.why) == "" {
		return cli.Usagef("--why: a request for approval says why")
	}
	act, err := c.act()
	if err != nil {
		return err
	}
	l, err := store.Limit(ctx)
	if err != nil {
		return err
	}
	var id int64
	var expires time.Time
	if c.apply {
		if id, expires, err = store.RequestBulk(ctx, count, login, act); err != nil {
			return err
		}
	}
	result := struct {
		ctl.Requested
		Count   int64   `json:"count"`
		Login   *string `json:"login"` // null: one's own
		PerHour int64   `json:"revocations_per_hour"`
		Used    int64   `json:"used_in_the_last_hour"` // by one's own login
	}{ctl.NewRequested("approval request bulk", id, expires), count, cli.TextOrNil(login), l.PerHour, l.Mine}
	return p.Print(result, func(t *cli.Table) {
		t.Row("revocations asked for", strconv.FormatInt(count, 10))
		t.Row("by login", cmp.Or(login, "your own"))
		t.Row("allowed an hour without", strconv.FormatInt(l.PerHour, 10))
		t.Row("used in the last hour", strconv.FormatInt(l.Mine, 10)+" by your own")
		result.Requested.Tell(t)
	})
}

func (p *program) approvalListCommand() *cobra.Command {
	var all bool
	var limit int
	cmd := p.Command("list", "show what waits for a second approver", `
		ocspctl approval list
		ocspctl approval list --all --limit 20 --output json`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			if limit < 1 {
				return cli.Usagef("--limit %d: want 1 or more", limit)
			}
			return p.atMaster(ctx, func(store *masterdb.DB, _ *config.Config) error { return p.approvalList(ctx, store, all, limit) })
		})
	cmd.Long = "Shows the open requests, the newest first; with --all also those approved, refused or expired."
	cmd.Flags().BoolVar(&all, "all", false, "also those approved, refused or expired")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most `N`")
	return cmd
}

func (p *program) approvalList(ctx context.Context, store *masterdb.DB, all bool, limit int) error {
	list, err := store.Approvals(ctx, !all, limit)
	if err != nil {
		return err
	}
	issuers, err := store.Issuers(ctx)
	if err != nil {
		return err
	}
	views := make([]approvalView, len(list))
	for i, a := range list {
		views[i] = p.viewApproval(a, issuers)
	}
	return p.Print(map[string]any{"requests": views}, func(t *cli.Table) {
		t.Row("ID", "STATE", "ACT", "WHAT", "BY", "UNTIL", "DECIDED BY", "WHY")
		for _, v := range views {
			t.Row(strconv.FormatInt(v.ID, 10), v.State, v.Act, v.subject(), v.RequestedBy, v.ExpiresAt, cli.OrDash(v.decidedBy()), v.Why)
		}
	})
}

func (p *program) approveCommand() *cobra.Command {
	var c change
	var key string
	cmd := p.Command("approve ID", "agree to another operator's request; it is carried out at once", `
		ocspctl approve 7
		ocspctl approve 7 --key /media/bert/correct.key --why 'checked with the holder by telephone' --apply`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			id, err := requestID(args[0])
			if err != nil {
				return err
			}
			return p.atMaster(ctx, func(store *masterdb.DB, cfg *config.Config) error { return p.approve(ctx, store, cfg, c, id, key) })
		})
	cmd.Long = `Without --apply the request is shown. With it a correction or another crl_url is
made in one transaction, an allowance given to the login that it names, and what a
master lost may be entered (feed recover, fleet lost): run that yourself first, and
compare the sum. Your login must be another one than the requester's, and an operator's; both stay in the audit.

Where permanent revocations are taken back, --key signs that: sites believe it by this
signature alone. The key is yours; the key set in force names it for corrections
(ocspctl feed keys sign --correct). Keep it with you, not at the master.`
	cmd.Flags().StringVar(&key, "key", "", "your key for corrections: a `FILE` that ocspctl feed key generate made")
	c.flags(cmd)
	return cmd
}

func (p *program) approve(ctx context.Context, store *masterdb.DB, cfg *config.Config, c change, id int64, key string) error {
	var notes []db.SignedCorrection
	if key != "" {
		var err error
		if notes, err = p.signCorrection(ctx, store, cfg, id, key); err != nil {
			return err
		}
	}
	return p.decide(ctx, store, c, id, "approve", func(ctx context.Context, id int64, act db.Act) error {
		return store.Approve(ctx, id, act, notes...)
	})
}

func (p *program) approvalRefuseCommand() *cobra.Command {
	var c change
	cmd := p.Command("refuse ID", "do not agree to a request, or take back one's own", `
		ocspctl approval refuse 7
		ocspctl approval refuse 7 --why 'the holder says that the key did leak' --apply`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			id, err := requestID(args[0])
			if err != nil {
				return err
			}
			if c.apply && strings.TrimSpace(c.why) == "" {
				return cli.Usagef("--why: a refusal says why")
			}
			return p.atMaster(ctx, func(store *masterdb.DB, _ *config.Config) error {
				return p.decide(ctx, store, c, id, "approval refuse", store.Refuse)
			})
		})
	cmd.Long = `Without --apply the request is shown. With it the request is closed: nobody can
approve it any more, and who refused it and why stays in the audit. The requester
may do so, too, as long as nobody has approved it. Your login must be an operator's.`
	c.flags(cmd)
	return cmd
}

// requestID reads the number of a request.
func requestID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		return 0, cli.Usagef("%q: want the number of a request (ocspctl approval list)", text)
	}
	return id, nil
}

// decide does what the verb says with a request, with --apply, and shows it.
func (p *program) decide(ctx context.Context, store *masterdb.DB, c change, id int64, verb string, do func(context.Context, int64, db.Act) error) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	if c.apply {
		if err := do(ctx, id, act); err != nil {
			return err
		}
	}
	a, err := store.Approval(ctx, id)
	if err != nil {
		return err
	}
	issuers, err := store.Issuers(ctx)
	if err != nil {
		return err
	}
	view := p.viewApproval(a, issuers)
	result := struct {
		cli.Outcome
		Request approvalView `json:"request"`
	}{cli.NewOutcome(verb, c.apply, c.apply || view.State == "open"), view}
	return p.Print(result, func(t *cli.Table) {
		view.tell(t)
		if !c.apply && view.State != "open" {
			t.Line("Nothing was done: it is " + view.State + ".")
			return
		}
		result.Outcome.Tell(t)
	})
}

// signCorrection signs what the second person agrees to, with this person's key.
func (p *program) signCorrection(ctx context.Context, store *masterdb.DB, cfg *config.Config, id int64, file string) ([]db.SignedCorrection, error) {
	a, err := store.Approval(ctx, id)
	if err != nil {
		return nil, err
	}
	if a.Act != masterdb.ApprovalCorrect {
		return nil, cli.Usagef("--key: request %d is no correction: there is nothing to sign", id)
	}
	set, err := keyset.InForce(ctx, store, cfg)
	if err != nil {
		return nil, err
	}
	key, err := feed.LoadKey(file, set.Origin)
	if err != nil {
		return nil, err
	}
	issuers, err := store.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	for _, issuer := range issuers {
		if issuer.ID == a.Issuer {
			return set.SignCorrections(key, publish.CorrectionsOf(set.Origin, issuer.Key, a))
		}
	}
	return nil, fmt.Errorf("request %d is of issuer %d, which is not here", id, a.Issuer)
}
