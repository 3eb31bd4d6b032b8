package main

import (
	"fmt"
	"strconv"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/reentry"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// approvalView is a request as ocspctl shows it.
type approvalView struct {
	ID           int64       `json:"id"`
	Act          string      `json:"act"`
	State        string      `json:"state"` // open, approved, refused or expired
	Issuer       *string     `json:"issuer"`
	Wrong        *string     `json:"wrong"`     // of a correction: revoked, issued or not_after
	NotAfter     *string     `json:"not_after"` // of not_after: the right end
	Certificates []takenView `json:"certificates"`
	CRLURL       *string     `json:"crl_url"`      // of issuer crl_url: the new one
	Before       *string     `json:"before"`       // and the one that it replaces
	EndedBefore  *string     `json:"ended_before"` // of db purge
	Count        int64       `json:"count"`
	Login        *string     `json:"login"` // of bulk: who may revoke
	Forks        []int64     `json:"forks"` // of a fork settle
	From         *string     `json:"from"`  // of feed recover and fleet lost: the source
	Sum          *string     `json:"sum"`   // as feed recover prints it
	Remaining    int64       `json:"remaining"`
	Why          string      `json:"why"`
	RequestedBy  string      `json:"requested_by"`
	User         string      `json:"os_user"`
	At           string      `json:"at"`
	ExpiresAt    string      `json:"expires_at"`
	ApprovedBy   *string     `json:"approved_by"`
	ApprovedAt   *string     `json:"approved_at"`
	RefusedBy    *string     `json:"refused_by"`
	RefusedAt    *string     `json:"refused_at"`

	lost string // what a recovery is about
}

type takenView struct {
	Serial    string  `json:"serial"`
	RevokedAt *string `json:"revoked_at"`
	NotAfter  string  `json:"not_after"`
}

func (p *program) viewApproval(a masterdb.Approval, issuers []db.Issuer) approvalView {
	v := approvalView{
		ID: a.ID, Act: string(a.Act), State: "open", Certificates: []takenView{}, Count: a.Count, Forks: append([]int64{}, a.Forks...), Remaining: a.Remaining, Why: a.Why,
		RequestedBy: a.Login, User: a.User, At: cli.Stamp(a.At), ExpiresAt: cli.Stamp(a.ExpiresAt),
		ApprovedBy: cli.TextOrNil(a.ApprovedBy), ApprovedAt: cli.StampOrNil(a.ApprovedAt),
		EndedBefore: cli.StampOrNil(a.EndedBefore), Login: cli.TextOrNil(a.For),
		Wrong: cli.TextOrNil(string(a.Wrong)), NotAfter: cli.StampOrNil(a.NotAfter), RefusedBy: cli.TextOrNil(a.RefusedBy), RefusedAt: cli.StampOrNil(a.RefusedAt),
	}
	if r := a.Recovery; len(r.Batches) > 0 {
		v.From, v.Sum, v.Count = &r.From, new(reentry.Sum(r.Batches)), r.Good+r.Held+r.Revoked
		v.lost = fmt.Sprintf("%d good, %d on hold, %d revoked, from %s", r.Good, r.Held, r.Revoked, r.From)
		if r.Epoch != 0 {
			v.lost += fmt.Sprintf(" at position %d of epoch %d", r.Position, r.Epoch)
		}
	}
	if a.Act == masterdb.ApprovalCRLURL {
		v.CRLURL, v.Before = &a.CRLURL, &a.BeforeURL
	}
	switch {
	case a.ApprovedBy != "":
		v.State = "approved"
	case a.RefusedBy != "":
		v.State = "refused"
	case !a.ExpiresAt.After(p.Now()):
		v.State = "expired"
	}
	for _, i := range issuers {
		if i.ID == a.Issuer {
			v.Issuer = new(i.Name)
		}
	}
	for _, c := range a.Taken {
		taken := takenView{Serial: c.Serial.String(), NotAfter: cli.Stamp(c.NotAfter)}
		if c.Revoked {
			taken.RevokedAt = new(cli.Stamp(c.RevokedAt))
		}
		v.Certificates = append(v.Certificates, taken)
	}
	return v
}

// subject says in a few words what a request is about.
func (v approvalView) subject() string {
	switch {
	case v.Act == string(masterdb.ApprovalBulk) && v.State == "approved":
		return fmt.Sprintf("%d revocations by %s, %d left", v.Count, cli.OrDash(v.Login), v.Remaining)
	case v.Act == string(masterdb.ApprovalBulk):
		return fmt.Sprintf("%d revocations by %s", v.Count, cli.OrDash(v.Login))
	case v.EndedBefore != nil:
		return fmt.Sprintf("%s certificates that ended before %s", cli.OrDash(v.Issuer), *v.EndedBefore)
	case v.CRLURL != nil:
		return fmt.Sprintf("%s crl_url %q instead of %q", cli.OrDash(v.Issuer), *v.CRLURL, *v.Before)
	case v.lost != "":
		return v.lost
	case v.Act == string(masterdb.ApprovalFork):
		return fmt.Sprintf("forks %v of the feed", v.Forks)
	case len(v.Certificates) == 1:
		return fmt.Sprintf("%s %s", cli.OrDash(v.Issuer), v.Certificates[0].Serial)
	default:
		return fmt.Sprintf("%s %d certificates", cli.OrDash(v.Issuer), len(v.Certificates))
	}
}

// decidedBy is who approved or refused it.
func (v approvalView) decidedBy() *string {
	if v.RefusedBy != nil {
		return v.RefusedBy
	}
	return v.ApprovedBy
}

// tell shows a request whole: a second person reads this before agreeing.
func (v approvalView) tell(t *cli.Table) {
	t.Row("request", strconv.FormatInt(v.ID, 10))
	t.Row("act", v.Act)
	t.Row("what", v.subject())
	if v.Sum != nil {
		t.Row("sum", *v.Sum)
	}
	for _, c := range v.Certificates {
		is := "good"
		if c.RevokedAt != nil {
			is = "revoked at " + *c.RevokedAt
		}
		switch db.Wrong(*v.Wrong) {
		case db.WrongIssued:
			t.Row("was never issued", fmt.Sprintf("%s, %s, ends at %s", c.Serial, is, c.NotAfter))
		case db.WrongNotAfter:
			t.Row("ends at "+cli.OrDash(v.NotAfter), fmt.Sprintf("%s, %s, ended at %s", c.Serial, is, c.NotAfter))
		default:
			t.Row("takes back", fmt.Sprintf("%s, %s", c.Serial, is))
		}
	}
	t.Row("why", v.Why)
	t.Row("requested by", v.RequestedBy+" ("+v.User+")")
	t.Row("requested at", v.At)
	t.Row("state", v.State)
}
