package issuer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/issuance"
)

// set is issuer set.
type set struct {
	cli.Change
	Name string `arg:"NAME"`
	Cert string `flag:"cert" help:"another certificate of the same key and subject, PEM or DER, in <FILE>"`
	policy
}

func (set) Doc() cli.Doc {
	return cli.Doc{
		Name: "set", Short: "change an issuer's policy, or renew its certificate",
		Long: `Shows what would change, old beside new, and what clients, sites and staff will notice
of it; what the rules forbid is refused: the bounds of issuer add, the Baseline
Requirements for profile br (and certificates on hold beside it), another never-issued
than unauthorized for an issuer that was purged. --apply does just that plan, or nothing
if the policy was changed meanwhile. --crl-url stands alone and files a request: another
operator approves it (ocspctl approve), and the CA signs for the new place only once its
own configuration says so. The change travels with the issuer's row: every
site follows within a second, without a restart, and signs each answer anew.`,
		Example: `
		ocspctl issuer set web-ca --validity 48h --max-staleness 24h
		ocspctl issuer set web-ca --crl-url http://ocsp.example/crl/web-ca --why 'clients that check' --apply
		ocspctl issuer set web-ca --cert web-ca-2027.pem --apply`,
	}
}

// Words removes the defaults from the help: a flag that is not given changes nothing.
func (set) Words() []string {
	return []string{" (default: half of validity)", "", " (default: 1h, at most half of validity)", ""}
}

func (v *set) Run(ctx context.Context, m *ctl.Master) error {
	old, err := m.Issuer(ctx, v.Name)
	if err != nil {
		return err
	}
	next, err := v.wanted(old, m.Now())
	if err != nil {
		return fmt.Errorf("setting issuer %q: %w", v.Name, err)
	}
	changes := compare(old, next)
	if next.Policy.CRLURL != old.Policy.CRLURL {
		if len(changes) > 1 {
			return cli.Usagef("--crl-url needs a second person: set it alone, the rest before or after")
		}
		return v.request(ctx, m, old.ID, changes)
	}
	outcome, err := m.Try(ctx, v.Change, func(store *masterdb.DB, act db.Act) (bool, error) {
		_, err := store.SetIssuer(ctx, next, act)
		return len(changes) > 0, err
	})
	if err != nil {
		return err
	}
	if outcome.Applied && outcome.Changed {
		next.Policy.Version++
	}
	return m.ShowChange(outcome, cli.Quiet(cli.Object("issuer", record(next))),
		cli.Record{cli.F("", "issuer", v.Name), cli.F("", "policy version", next.Policy.Version)},
		cli.Below(cli.List("changes", changes, change.record)), cli.Line(""))
}

// request files a request: the address of the CRL decides which certificates a CRL seems to cover,
// so one person must not change it alone.
func (v *set) request(ctx context.Context, m *ctl.Master, issuer db.IssuerID, changes []change) error {
	if err := v.WantWhy("a request for another crl_url"); err != nil {
		return err
	}
	if !v.Apply {
		v.Why = cmp.Or(v.Why, "a plan")
	}
	var id int64
	var expires time.Time
	outcome, err := m.Try(ctx, v.Change, func(store *masterdb.DB, act db.Act) (changed bool, err error) {
		id, expires, err = store.RequestCRLURL(ctx, issuer, v.CRLURL, act)
		return true, err
	})
	if err != nil {
		return err
	}
	if !v.Apply {
		id = 0
	}
	return m.ShowChange(ctl.NewRequested(outcome.Action, id, expires), cli.List("changes", changes, change.record), cli.Line(""))
}

// wanted returns the issuer after the change. It refuses a forbidden change.
func (v *set) wanted(old db.Issuer, now time.Time) (db.Issuer, error) {
	next := old
	next.Policy = v.onto(old.Policy, false)
	if v.Cert != "" {
		certificate, err := ctl.ReadCertificate(v.Cert)
		if err == nil {
			err = issuance.CheckCA(certificate, now)
		}
		if err == nil && db.IssuerKey(certificate) != old.Key {
			err = errors.New("it has another key or subject: that is another issuer (ocspctl issuer add)")
		}
		if err != nil {
			return next, fmt.Errorf("%s: %w", v.Cert, err)
		}
		next.Certificate = certificate.Raw
	}
	return next, checkPolicy(next.Policy)
}
