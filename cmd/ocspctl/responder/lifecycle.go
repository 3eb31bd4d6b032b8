package responder

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ca"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/issuance"
	"ocspfleet/ops/sites"
)

// lifecycle has the arguments of revoke, suspend, restore and leave.
type lifecycle struct {
	cli.Change
	Site  string `arg:"SITE"`
	Force bool   `flag:"force" help:"do it even to the last healthy site, and to the last address of a name"`
}

// turn is one change of a site's state.
type turn struct {
	lifecycle
	m       *ctl.Master
	reason  db.Reason                                         // of a revocation
	byHand  bool                                              // its addresses left the DNS by hand
	publish bool                                              // its addresses must be in the DNS afterwards
	steps   func(sites.Lifecycle) []sites.Step                // the steps, in order
	rows    func(context.Context, *masterdb.DB, db.Act) error // the change of the master's rows by the steps, which can be tried
}

// revoke is responder revoke.
type revoke struct {
	lifecycle
	Reason string `flag:"reason,required" help:"the <NAME> of RFC 5280: keyCompromise, cessationOfOperation, superseded, ..."`
}

func (revoke) Doc() cli.Doc {
	return cli.Doc{
		Name: "revoke", Short: "revoke all certificates of a site for ever, ban its keys, and end its access",
		Long: `Step by step, each of which may be repeated: revokes every unexpired certificate of
the site, superseded and planned ones included, and bans its keys, in one
transaction that no limit holds up; lets a running stream bring the site the news
(an honest one stops by itself); closes its replication login; ends its sessions,
running streams too; drops its slots; takes its addresses out of the DNS (without
dns in ocspctl.yaml it names them for work by hand); issues the CRLs anew. Broken off
anywhere, run it again. A fault of the DNS stops no other step. Every other site answers revoked
for it. Its name and keys never come back. Never the last healthy site without
--force.`,
		Example: `
		ocspctl responder revoke site-b --reason keyCompromise
		ocspctl responder revoke site-b --reason keyCompromise --why 'broken into on Sunday' --apply`,
	}
}

func (v *revoke) Run(ctx context.Context, m *ctl.Master) error {
	reason, err := db.ParseReason(v.Reason)
	if err != nil {
		return cli.Usagef("--reason: %v", err)
	}
	if reason == db.ReasonCertificateHold {
		return cli.Usagef("--reason certificateHold: a site is revoked for ever (for a time: responder suspend)")
	}
	return turn{
		lifecycle: v.lifecycle, m: m, reason: reason,
		steps: func(l sites.Lifecycle) []sites.Step { return l.Revoke(reason) },
		rows: func(ctx context.Context, store *masterdb.DB, act db.Act) error {
			_, err := store.RevokeResponder(ctx, v.Site, reason, act)
			return err
		},
	}.run(ctx)
}

// suspend is responder suspend.
type suspend struct{ lifecycle }

func (suspend) Doc() cli.Doc {
	return cli.Doc{
		Name: "suspend", Short: "take a site out until it is restored: certificates on hold, access closed",
		Long: `The half of responder revoke that can be taken back: certificates go on hold, access
is closed, the slot stays. Profile br forbids hold (BR 4.9.13): there the site's
certificates are taken out of the replicated rows, so that it has none to sign with and
stops; their status stays good, and nobody else says anything of it. Its addresses
leave the DNS, but never the last one of a name without --force.`,
		Example: `
		ocspctl responder suspend site-b
		ocspctl responder suspend site-b --why 'the partner investigates' --apply`,
	}
}

func (v *suspend) Run(ctx context.Context, m *ctl.Master) error {
	return turn{
		lifecycle: v.lifecycle, m: m, reason: db.ReasonNone, steps: sites.Lifecycle.Suspend,
		rows: func(ctx context.Context, store *masterdb.DB, act db.Act) error {
			_, err := store.SuspendResponder(ctx, v.Site, act)
			return err
		},
	}.run(ctx)
}

// restore is responder restore.
type restore struct{ lifecycle }

func (restore) Doc() cli.Doc {
	return cli.Doc{
		Name: "restore", Short: "bring a suspended site back",
		Long: `Releases the site's certificates from hold, gives back what was withheld, and opens
its access; its ocspsyncd comes back by itself, from where it was. Its addresses return
to the names in the DNS that they were taken from, as soon as it answers OCSP requests
by them (a minute at most; if not, run it again). For a new site, too: it puts one that
never stood in the DNS at every name that has addresses of the kind.`,
		Example: `
		ocspctl responder restore site-b
		ocspctl responder restore site-b --why 'nothing was found' --apply`,
	}
}

// Words returns the text on --force.
func (restore) Words() []string {
	return []string{"do it even to the last healthy site, and to the last address of a name", "publish its addresses even if it does not answer by them"}
}

func (v *restore) Run(ctx context.Context, m *ctl.Master) error {
	return turn{
		lifecycle: v.lifecycle, m: m, reason: db.ReasonNone, publish: true, steps: sites.Lifecycle.Restore,
		rows: func(ctx context.Context, store *masterdb.DB, act db.Act) error {
			_, err := store.RestoreResponder(ctx, v.Site, act)
			return err
		},
	}.run(ctx)
}

// leave is responder leave.
type leave struct {
	lifecycle
	ByHand bool `flag:"withdrawn" help:"its addresses left the DNS by hand, and their TTL is over"`
}

func (leave) Doc() cli.Doc {
	return cli.Doc{
		Name: "leave", Short: "take a site off the fleet in peace: out of the DNS, then its access ends",
		Long: `For a partner who stops hosting, and is trusted to delete his key. First its addresses
leave the DNS; then the site must answer until resolvers have forgotten them (the TTL: it
waits 5 minutes at most, else says until when; run it again then); then its TLS key, its
login, sessions and slots are closed, and its keys and name are banned. Its
certificates stay good until they end: revoked, they would spoil the answers that caches
and servers with stapling still give out. Certificates that an offline CA signed ahead
are revoked (cessationOfOperation). Where ocspctl has no zone, or the site no address
there, --withdrawn says that it was done by hand and the TTL is over. Until the TTL is over
responder restore takes it back; what the partner does then: docs/identities.md.`,
		Example: `
		ocspctl responder leave site-b
		ocspctl responder leave site-b --why 'the contract ends' --apply
		ocspctl responder leave site-b --withdrawn --apply`,
	}
}

func (v *leave) Run(ctx context.Context, m *ctl.Master) error {
	return turn{
		lifecycle: v.lifecycle, m: m, reason: db.ReasonNone, byHand: v.ByHand, steps: sites.Lifecycle.Leave,
		rows: func(ctx context.Context, store *masterdb.DB, act db.Act) error {
			_, err := store.LeaveResponder(ctx, v.Site, act)
			return err
		},
	}.run(ctx)
}

func (t turn) run(ctx context.Context) error {
	act, err := ctl.Act(t.Change)
	if err != nil {
		return err
	}
	s, err := find(ctx, t.m, t.Site)
	if err != nil {
		return err
	}
	if !t.publish && !t.Force {
		if err := (sites.Surveyor{Timeout: 3 * time.Second, Now: t.m.Now}).CheckNotLast(ctx, t.m.Store, t.Site); err != nil {
			return err
		}
	}
	crl, err := crlStep(ctx, t.m, s, act)
	if err != nil {
		return err
	}
	run := sites.Lifecycle{Store: t.m.Store, Site: t.Site, Act: act, CRL: crl, DNS: withdrawalDNS(t.m, t.Force), ByHand: t.byHand}
	if !t.Apply {
		if err := t.m.Store.Try(ctx, false, func(store *masterdb.DB) error { return t.rows(ctx, store, act) }); err != nil {
			return err
		}
		// The change itself must not wait for a zone that does not answer.
		if run, err = run.Preview(ctx, t.publish); err != nil {
			return err
		}
	}
	steps := t.steps(run)
	var failed error
	if t.Apply { // if a step fails, the earlier ones stay done, and are shown
		failed = run.Run(ctx, steps, func(sites.Step) {})
	}
	if err := t.tell(ctx, steps, failed); err != nil {
		return err
	}
	return failed
}

// tell shows the site with its unexpired certificates; without --apply as they are now.
func (t turn) tell(ctx context.Context, steps did, failed error) error {
	s, err := find(ctx, t.m, t.Site)
	if err != nil {
		return err
	}
	s.unexpired()
	o := t.Outcome(true)
	o.Applied = t.Apply && failed == nil
	parts := []cli.Part{
		cli.Quiet(o),
		cli.Record{cli.F("site", "site", s.Name), cli.F("state", "state", s.State), cli.Maybe("reason", "reason", t.reason.String())},
		cli.Below(steps.part()), cli.Quiet(cli.List("certificates", s.certificates, certificate.record)), cli.Below(cli.List("", s.certificates, certificate.brief)),
	}
	if s.State == db.ResponderLeft && len(s.certificates) > 0 {
		parts = append(parts, cli.Line("Whoever has its key can sign until the last of these ends: have it deleted at the site (docs/identities.md, A partner leaves). If nobody there can be trusted with that: responder revoke --reason cessationOfOperation."))
	}
	return t.m.Show(append(parts, steps.end(o))...)
}

// brief returns a certificate of a withdrawn site for people.
func (c certificate) brief() cli.Record {
	return cli.Record{cli.F("", "ISSUER", c.Issuer), cli.F("", "SERIAL", c.Serial), cli.F("", "STATUS", c.status()), cli.F("", "NOT AFTER", c.NotAfter)}
}

// crlStep returns the step that issues the CRLs that a withdrawal changes; nil: no CA key is at
// hand.
func crlStep(ctx context.Context, m *ctl.Master, s site, act db.Act) (func(context.Context) (string, error), error) {
	names, err := ca.IssuersWithCRL(ctx, m, func(issuer db.Issuer) bool {
		return slices.ContainsFunc(s.certificates, func(c certificate) bool { return c.Issuer == issuer.Name })
	})
	if err != nil || len(m.Config.Issuers) == 0 {
		return nil, err
	}
	return func(ctx context.Context) (string, error) {
		if len(names) == 0 {
			return "no issuer of it has a crl_url", nil
		}
		var issued []string
		err := ca.With(ctx, m, names, func(authorities []*issuance.Authority) error {
			var faults []error
			for _, a := range authorities {
				content, _, err := issuance.IssueCRL(ctx, m.Store, a, issuance.CRLLife, rand.Reader, act)
				if err != nil {
					faults = append(faults, err)
					continue
				}
				issued = append(issued, fmt.Sprintf("%s number %d", a.Issuer.Name, content.Number))
			}
			return errors.Join(faults...)
		})
		return strings.Join(issued, ", "), err
	}, nil
}
