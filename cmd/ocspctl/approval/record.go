package approval

import (
	"cmp"
	"fmt"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/reentry"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// request is a request as ocspctl shows it.
type request struct {
	masterdb.Approval
	issuer string // its name; empty: it has none
	state  string // open, approved, refused or expired
}

func newRequest(a masterdb.Approval, issuers []db.Issuer, now time.Time) request {
	r := request{Approval: a, state: "open"}
	switch {
	case a.ApprovedBy != "":
		r.state = "approved"
	case a.RefusedBy != "":
		r.state = "refused"
	case !a.ExpiresAt.After(now):
		r.state = "expired"
	}
	for _, i := range issuers {
		if i.ID == a.Issuer {
			r.issuer = i.Name
		}
	}
	return r
}

// recovers says whether the request is to enter what the master lost.
func (r request) recovers() bool { return len(r.Recovery.Batches) > 0 }

// sum returns the sum that feed recover and fleet lost print; empty: another kind of request.
func (r request) sum() string {
	if !r.recovers() {
		return ""
	}
	return reentry.Sum(r.Recovery.Batches)
}

// subject describes a request in a few words.
func (r request) subject() string {
	issuer, login := cmp.Or(r.issuer, "-"), cmp.Or(r.For, "-")
	switch {
	case r.Act == masterdb.ApprovalBulk && r.state == "approved":
		return fmt.Sprintf("%d revocations by %s, %d left", r.Count, login, r.Remaining)
	case r.Act == masterdb.ApprovalBulk:
		return fmt.Sprintf("%d revocations by %s", r.Count, login)
	case !r.EndedBefore.IsZero():
		return fmt.Sprintf("%s certificates that ended before %s", issuer, cli.Stamp(r.EndedBefore))
	case r.Act == masterdb.ApprovalCRLURL:
		return fmt.Sprintf("%s crl_url %q instead of %q", issuer, r.CRLURL, r.BeforeURL)
	case r.recovers():
		text := fmt.Sprintf("%d good, %d on hold, %d revoked, from %s", r.Recovery.Good, r.Recovery.Held, r.Recovery.Revoked, r.Recovery.From)
		if r.Recovery.Epoch != 0 {
			text += fmt.Sprintf(" at position %d of epoch %d", r.Recovery.Position, r.Recovery.Epoch)
		}
		return text
	case r.Act == masterdb.ApprovalFork:
		return fmt.Sprintf("forks %v of the feed", r.Forks)
	case len(r.Taken) == 1:
		return fmt.Sprintf("%s %s", issuer, r.Taken[0].Serial)
	default:
		return fmt.Sprintf("%s %d certificates", issuer, len(r.Taken))
	}
}

// record returns a request as a row, and all of it for programs.
func (r request) record() cli.Record {
	var url, before, from any
	count := r.Count
	if r.Act == masterdb.ApprovalCRLURL {
		url, before = r.CRLURL, r.BeforeURL
	}
	if r.recovers() {
		from, count = r.Recovery.From, r.Recovery.Good+r.Recovery.Held+r.Recovery.Revoked
	}
	return cli.Record{
		cli.F("id", "ID", r.ID), cli.F("state", "STATE", r.state), cli.F("act", "ACT", r.Act), cli.F("", "WHAT", r.subject()),
		cli.F("issuer", "", cli.OrNil(r.issuer)),
		cli.F("wrong", "", cli.OrNil(r.Wrong)), cli.F("not_after", "", r.NotAfter), cli.F("certificates", "", cli.Records(r.Taken, taken)), // of a correction
		cli.F("crl_url", "", url), cli.F("before", "", before), // the new one, and the one that it replaces
		cli.F("ended_before", "", r.EndedBefore),                        // of db purge
		cli.F("count", "", count), cli.F("login", "", cli.OrNil(r.For)), // of bulk: who may revoke
		cli.F("forks", "", r.Forks), cli.F("from", "", from), cli.F("sum", "", cli.OrNil(r.sum())), // of what the master lost: the source
		cli.F("remaining", "", r.Remaining),
		cli.F("requested_by", "BY", r.Login), cli.F("os_user", "", r.User), cli.F("at", "", r.At), cli.F("expires_at", "UNTIL", r.ExpiresAt),
		cli.F("", "DECIDED BY", cli.OrNil(cmp.Or(r.RefusedBy, r.ApprovedBy))),
		cli.F("approved_by", "", cli.OrNil(r.ApprovedBy)), cli.F("approved_at", "", r.ApprovedAt),
		cli.F("refused_by", "", cli.OrNil(r.RefusedBy)), cli.F("refused_at", "", r.RefusedAt), cli.F("why", "WHY", r.Why),
	}
}

func taken(c db.Taken) cli.Record {
	at := time.Time{}
	if c.Revoked {
		at = c.RevokedAt
	}
	return cli.Record{cli.F("serial", "", c.Serial), cli.F("revoked_at", "", at), cli.F("not_after", "", c.NotAfter)}
}

// tell shows the whole request: a second person reads this before agreeing.
func (r request) tell(t *cli.Table) {
	t.Row("request", fmt.Sprint(r.ID))
	t.Row("act", string(r.Act))
	t.Row("what", r.subject())
	if sum := r.sum(); sum != "" {
		t.Row("sum", sum)
	}
	for _, c := range r.Taken {
		is := "good"
		if c.Revoked {
			is = "revoked at " + cli.Stamp(c.RevokedAt)
		}
		switch r.Wrong {
		case db.WrongIssued:
			t.Row("was never issued", fmt.Sprintf("%s, %s, ends at %s", c.Serial, is, cli.Stamp(c.NotAfter)))
		case db.WrongNotAfter:
			t.Row("ends at "+cli.Text(r.NotAfter), fmt.Sprintf("%s, %s, ended at %s", c.Serial, is, cli.Stamp(c.NotAfter)))
		default:
			t.Row("takes back", fmt.Sprintf("%s, %s", c.Serial, is))
		}
	}
	t.Row("why", r.Why)
	t.Row("requested by", r.Login+" ("+r.User+")")
	t.Row("requested at", cli.Stamp(r.At))
	t.Row("state", r.state)
}
