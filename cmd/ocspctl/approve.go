package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ocspfleet/db"
)

func (p *program) approvalCommand() *cobra.Command {
	return noun("approval", "what one operator must not do alone",
		noun("request", "ask for a second person's agreement", p.approvalBulkCommand()), p.approvalListCommand())
}

func (p *program) approvalBulkCommand() *cobra.Command {
	var c change
	var count int64
	cmd := p.verb("bulk", "ask for an allowance of revocations beyond the hourly limit", `
		ocspctl approval request bulk --count 500 --why 'incident 12: the keys of branch 7 leaked' --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.approvalBulk(ctx, store, c, count) })
		})
	cmd.Long = `All logins together revoke at most 100 certificates an hour (or what db limit
says) on one person's word. Once another operator has approved, the login that
asked may revoke COUNT more, by cert revoke, cert hold or cert import, for 24
hours. Certificates that come in revoked and responder revoke need no allowance.`
	cmd.Flags().Int64Var(&count, "count", 0, "how many revocations (`N`)")
	c.flags(cmd)
	require(cmd, "count")
	return cmd
}

func (p *program) approvalBulk(ctx context.Context, store *db.Store, c change, count int64) error {
	if count < 1 || count > 1_000_000_000 {
		return usagef("--count %d: want 1 to 1000000000", count)
	}
	if c.apply && strings.TrimSpace(c.why) == "" {
		return usagef("--why: a request for approval says why")
	}
	act, err := c.act()
	if err != nil {
		return err
	}
	perHour, used, err := store.Limit(ctx)
	if err != nil {
		return err
	}
	var id int64
	var expires time.Time
	if c.apply {
		if id, expires, err = store.RequestBulk(ctx, count, act); err != nil {
			return err
		}
	}
	result := struct {
		requested
		Count   int64 `json:"count"`
		PerHour int64 `json:"revocations_per_hour"`
		Used    int64 `json:"used_in_the_last_hour"`
	}{newRequested("approval request bulk", id, expires), count, perHour, used}
	return p.print(result, func(t *table) {
		t.row("revocations asked for", strconv.FormatInt(count, 10))
		t.row("allowed an hour without", strconv.FormatInt(perHour, 10))
		t.row("used in the last hour", strconv.FormatInt(used, 10))
		result.requested.tell(t)
	})
}

// approvalView is a request as ocspctl shows it.
type approvalView struct {
	ID           int64       `json:"id"`
	Act          string      `json:"act"`
	State        string      `json:"state"` // open, approved or expired
	Issuer       *string     `json:"issuer"`
	Certificates []takenView `json:"certificates"`
	Count        int64       `json:"count"`
	Remaining    int64       `json:"remaining"`
	Why          string      `json:"why"`
	RequestedBy  string      `json:"requested_by"`
	User         string      `json:"os_user"`
	At           string      `json:"at"`
	ExpiresAt    string      `json:"expires_at"`
	ApprovedBy   *string     `json:"approved_by"`
	ApprovedAt   *string     `json:"approved_at"`
}

type takenView struct {
	Serial    string `json:"serial"`
	RevokedAt string `json:"revoked_at"`
}

func (p *program) viewApproval(a db.Approval, issuers []db.Issuer) approvalView {
	v := approvalView{
		ID: a.ID, Act: string(a.Act), State: "open", Certificates: []takenView{}, Count: a.Count, Remaining: a.Remaining, Why: a.Why,
		RequestedBy: a.Login, User: a.User, At: stamp(a.At), ExpiresAt: stamp(a.ExpiresAt),
		ApprovedBy: textOrNil(a.ApprovedBy), ApprovedAt: stampOrNil(a.ApprovedAt),
	}
	switch {
	case a.ApprovedBy != "":
		v.State = "approved"
	case !a.ExpiresAt.After(p.now()):
		v.State = "expired"
	}
	for _, i := range issuers {
		if i.ID == a.Issuer {
			v.Issuer = new(i.Name)
		}
	}
	for _, c := range a.Taken {
		v.Certificates = append(v.Certificates, takenView{c.Serial.String(), stamp(c.RevokedAt)})
	}
	return v
}

// subject says in a few words what a request is about.
func (v approvalView) subject() string {
	switch {
	case v.Act == string(db.ApprovalBulk) && v.State == "approved":
		return fmt.Sprintf("%d revocations, %d left", v.Count, v.Remaining)
	case v.Act == string(db.ApprovalBulk):
		return fmt.Sprintf("%d revocations", v.Count)
	case len(v.Certificates) == 1:
		return fmt.Sprintf("%s %s", orDash(v.Issuer), v.Certificates[0].Serial)
	default:
		return fmt.Sprintf("%s %d certificates", orDash(v.Issuer), len(v.Certificates))
	}
}

func (p *program) approvalListCommand() *cobra.Command {
	var all bool
	var limit int
	cmd := p.verb("list", "show what waits for a second approver", `
		ocspctl approval list
		ocspctl approval list --all --limit 20 --output json`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			if limit < 1 {
				return usagef("--limit %d: want 1 or more", limit)
			}
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.approvalList(ctx, store, all, limit) })
		})
	cmd.Long = "Shows the open requests, the newest first; with --all also those approved or expired."
	cmd.Flags().BoolVar(&all, "all", false, "also those approved or expired")
	cmd.Flags().IntVar(&limit, "limit", 100, "at most `N`")
	return cmd
}

func (p *program) approvalList(ctx context.Context, store *db.Store, all bool, limit int) error {
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
	return p.print(map[string]any{"requests": views}, func(t *table) {
		t.row("ID", "STATE", "ACT", "WHAT", "BY", "UNTIL", "APPROVED BY", "WHY")
		for _, v := range views {
			t.row(strconv.FormatInt(v.ID, 10), v.State, v.Act, v.subject(), v.RequestedBy, v.ExpiresAt, orDash(v.ApprovedBy), v.Why)
		}
	})
}

func (p *program) approveCommand() *cobra.Command {
	var c change
	cmd := p.verb("approve ID", "agree to another operator's request; it is carried out at once", `
		ocspctl approve 7
		ocspctl approve 7 --why 'checked with the holder by telephone' --apply`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || id < 1 {
				return usagef("%q: want the number of a request (ocspctl approval list)", args[0])
			}
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.approve(ctx, store, c, id) })
		})
	cmd.Long = `Without --apply the request is shown. With it a correction is made in one
transaction, and an allowance given to the login that asked. Your login must be
another one than the requester's, and an operator's; both stay in the audit.`
	c.flags(cmd)
	return cmd
}

func (p *program) approve(ctx context.Context, store *db.Store, c change, id int64) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	if c.apply {
		if err := store.Approve(ctx, id, act); err != nil {
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
		outcome
		Request approvalView `json:"request"`
	}{outcome{"approve", c.apply, c.apply || view.State == "open"}, view}
	return p.print(result, func(t *table) {
		t.row("request", strconv.FormatInt(id, 10))
		t.row("act", view.Act)
		t.row("what", view.subject())
		for _, taken := range view.Certificates {
			t.row("takes back", fmt.Sprintf("%s, revoked at %s", taken.Serial, taken.RevokedAt))
		}
		t.row("why", view.Why)
		t.row("requested by", view.RequestedBy+" ("+view.User+")")
		t.row("requested at", view.At)
		t.row("state", view.State)
		if !c.apply && view.State != "open" {
			t.line("Nothing was done: it is " + view.State + ".")
			return
		}
		result.outcome.tell(t)
	})
}
