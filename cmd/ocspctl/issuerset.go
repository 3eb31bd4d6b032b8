package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/fleet"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// issuerSet holds the flags of issuer set.
type issuerSet struct {
	change
	cert   string
	policy policyFlags
	given  func(flag string) bool // whether it stands on the command line
}

func (p *program) issuerSetCommand() *cobra.Command {
	var s issuerSet
	cmd := p.Command("set NAME", "change an issuer's policy, or renew its certificate", `
		ocspctl issuer set web-ca --validity 48h --max-staleness 24h
		ocspctl issuer set web-ca --crl-url http://ocsp.example/crl/web-ca --why 'clients that check' --apply
		ocspctl issuer set web-ca --cert web-ca-2027.pem --apply`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			return p.atMaster(ctx, func(store *masterdb.DB, _ *config.Config) error { return p.issuerSet(ctx, store, args[0], s) })
		})
	f := cmd.Flags()
	f.StringVar(&s.cert, "cert", "", "another certificate of the same key and subject, PEM or DER, in `FILE`")
	s.policy.flags(f)
	f.VisitAll(unchanged)
	s.given = f.Changed
	s.flags(cmd)
	return cmd
}

// unchanged takes the default out of a policy flag's help: what is not given stays.
func unchanged(f *pflag.Flag) {
	f.DefValue = ""
	switch f.Value.Type() {
	case "duration":
		f.DefValue = "0s"
	case "bool":
		f.DefValue = "false"
	}
	f.Usage, _, _ = strings.Cut(f.Usage, " (default: ")
}

// onto is the policy of an issuer with what was given.
func (s *issuerSet) onto(policy db.Policy) db.Policy {
	given := s.policy.policy()
	for flag, set := range map[string]func(){
		"validity":          func() { policy.Validity = given.Validity },
		"backdate":          func() { policy.Backdate = given.Backdate },
		"max-staleness":     func() { policy.MaxStaleness = given.MaxStaleness },
		"fresh-for-unknown": func() { policy.FreshForUnknown = given.FreshForUnknown },
		"http-max-age":      func() { policy.HTTPMaxAge = given.HTTPMaxAge },
		"refresh":           func() { policy.Refresh = given.Refresh },
		"never-issued":      func() { policy.NeverIssued = given.NeverIssued },
		"profile":           func() { policy.Profile = given.Profile },
		"crl-url":           func() { policy.CRLURL = given.CRLURL },
		"archive-cutoff":    func() { policy.ArchiveCutoff = given.ArchiveCutoff },
	} {
		if s.given(flag) {
			set()
		}
	}
	return policy
}

// issuerChange is one thing that issuer set changes.
type issuerChange struct {
	What   string `json:"what"`
	Old    string `json:"old"`
	New    string `json:"new"`
	Notice string `json:"notice"` // what clients, sites or staff will notice
}

func (p *program) issuerSet(ctx context.Context, store *masterdb.DB, name string, s issuerSet) error {
	act, err := s.act()
	if err != nil {
		return err
	}
	old, err := ctl.IssuerNamed(ctx, store, name)
	if err != nil {
		return err
	}
	next, err := p.wanted(old, s)
	if err != nil {
		return fmt.Errorf("setting issuer %q: %w", name, err)
	}
	differences := compareIssuers(old, next)
	if next.Policy.CRLURL != old.Policy.CRLURL {
		if len(differences) > 1 {
			return cli.Usagef("--crl-url needs a second person: set it alone, the rest before or after")
		}
		return p.requestCRLURL(ctx, store, old, next.Policy.CRLURL, s, differences)
	}
	if err := store.Try(ctx, s.apply, func(store *masterdb.DB) error {
		_, err := store.SetIssuer(ctx, next, act)
		return err
	}); err != nil {
		return err
	}
	if s.apply && len(differences) > 0 {
		next.Policy.Version++
	}
	view := viewIssuer(next)
	result := struct {
		cli.Outcome
		Issuer  issuerView     `json:"issuer"`
		Changes []issuerChange `json:"changes"`
	}{cli.NewOutcome("issuer set", s.apply, len(differences) > 0), view, differences}
	return p.Print(result, func(t *cli.Table) {
		t.Row("issuer", name)
		t.Row("policy version", fmt.Sprint(view.PolicyVersion))
		t.Line("")
		tellChanges(t, differences)
		result.Tell(t)
	})
}

// requestCRLURL files a request: what one person makes of the CRL's place decides which
// certificates a CRL seems to speak of.
func (p *program) requestCRLURL(ctx context.Context, store *masterdb.DB, issuer db.Issuer, url string, s issuerSet, differences []issuerChange) error {
	if s.apply && strings.TrimSpace(s.why) == "" {
		return cli.Usagef("--why: a request for another crl_url says why")
	}
	if !s.apply {
		s.why = cmp.Or(s.why, "a plan")
	}
	act, err := s.act()
	if err != nil {
		return err
	}
	var id int64
	var expires time.Time
	err = store.Try(ctx, s.apply, func(store *masterdb.DB) error {
		id, expires, err = store.RequestCRLURL(ctx, issuer.ID, url, act)
		return err
	})
	if err != nil {
		return err
	}
	if !s.apply {
		id = 0
	}
	result := struct {
		ctl.Requested
		Changes []issuerChange `json:"changes"`
	}{ctl.NewRequested("issuer set", id, expires), differences}
	return p.Print(result, func(t *cli.Table) {
		tellChanges(t, differences)
		result.Requested.Tell(t)
	})
}

func tellChanges(t *cli.Table, differences []issuerChange) {
	t.Row("WHAT", "OLD", "NEW", "WHAT WILL BE NOTICED")
	for _, d := range differences {
		t.Row(d.What, d.Old, d.New, d.Notice)
	}
	t.Line("")
}

// wanted is the issuer as it is to be. What is not allowed is refused.
func (p *program) wanted(old db.Issuer, s issuerSet) (db.Issuer, error) {
	next := old
	next.Policy = s.onto(old.Policy)
	if s.cert != "" {
		certificate, err := ctl.ReadCertificate(s.cert)
		if err == nil {
			err = fleet.CheckCA(certificate, p.Now())
		}
		if err == nil && fleet.IssuerKey(certificate) != old.Key {
			err = errors.New("it has another key or subject: that is another issuer (ocspctl issuer add)")
		}
		if err != nil {
			return next, fmt.Errorf("%s: %w", s.cert, err)
		}
		next.Certificate = certificate.Raw
	}
	return next, checkPolicy(next.Policy)
}

// compareIssuers lists what differs, with what follows from it.
func compareIssuers(was, is db.Issuer) []issuerChange {
	a, b := was.Policy, is.Policy
	list := []issuerChange{
		{"validity", a.Validity.String(), b.Validity.String(), "answers given before keep their nextUpdate, " + a.Validity.String() + " at most"},
		{"backdate", a.Backdate.String(), b.Backdate.String(), "thisUpdate of new answers; clients whose clock is slower than that refuse them"},
		{"max staleness", a.MaxStaleness.String(), b.MaxStaleness.String(), "a site without news stops saying good after " + b.MaxStaleness.String()},
		{"fresh for unknown", a.FreshForUnknown.String(), b.FreshForUnknown.String(), "a site without news answers serials never issued with unauthorized after " + b.FreshForUnknown.String()},
		{"http max age", a.HTTPMaxAge.String(), b.HTTPMaxAge.String(), "HTTP caches keep a good so long after a revocation; what they hold now for " + a.HTTPMaxAge.String() + " at most"},
		{"refresh", a.Refresh.String(), b.Refresh.String(), "each certificate asked for is signed for again so often"},
		{"never issued", string(a.NeverIssued), string(b.NeverIssued), neverIssuedNotice(b.NeverIssued)},
		{"profile", string(a.Profile), string(b.Profile), profileNotice(b)},
		{"crl url", a.CRLURL, b.CRLURL, "the CA signs for it only once its own configuration says so (issuers.NAME.crl_url); certificates of the sites name the old one until they are renewed: ocspctl responder renew, then crl issue (the CRL names one place)"},
		{"certificate", fingerprint(was.Certificate), fingerprint(is.Certificate), "sites that pin its fingerprint need the new one in ocspd.yaml before they start again; a pinned file goes on"},
		{"archive cutoff", fmt.Sprint(a.ArchiveCutoff), fmt.Sprint(b.ArchiveCutoff), "answers promise that status is kept for ever, and db purge is refused; or no longer"},
	}
	if a.CRLURL == "" {
		list[8].Notice = "the CA signs for it only once its own configuration says so (issuers.NAME.crl_url): then ocspctl crl issue, then responder renew"
	}
	if len(was.CRL) > 0 && b.MaxStaleness > fleet.CRLLife {
		list[2].Notice += "; a CRL must live longer than that: crl issue --life"
	}
	return slices.DeleteFunc(list, func(d issuerChange) bool { return d.Old == d.New })
}

func neverIssuedNotice(n db.NeverIssued) string {
	switch n {
	case db.NeverIssuedRevoked:
		return "a serial that is not registered is revoked to all clients: register before you sign"
	case db.NeverIssuedUnauthorized:
		return "clients that ask for a serial never issued get an error without a signature"
	}
	return "clients that ask for a serial never issued get a signed unknown"
}

func profileNotice(p db.Policy) string {
	if p.Profile == db.ProfileBR {
		return "no hold any more; no answer by a certificate in its last 8 h; responder certificates get nocheck and no CRL, and 7 days at most: ocspctl responder renew"
	}
	return "responder certificates lose nocheck: ocspctl responder renew; clients may check them by the CRL (--crl-url)"
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
