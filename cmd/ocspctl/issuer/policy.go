package issuer

import (
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/db"
	"ocspfleet/ops/config"
)

// policy has the flags of a policy.
type policy struct {
	Validity        time.Duration `flag:"validity" help:"how long an answer is valid (1h to 240h)"`
	Backdate        time.Duration `flag:"backdate" help:"how far thisUpdate lies back, for slow clocks of clients (0 to 1h)"`
	MaxStaleness    time.Duration `flag:"max-staleness" help:"how old a site's copy may be for good (default: half of validity)"`
	FreshForUnknown time.Duration `flag:"fresh-for-unknown" help:"how old a site's copy may be for unknown"`
	HTTPMaxAge      time.Duration `flag:"http-max-age" help:"how long HTTP caches may keep an answer (default: 1h, at most half of validity)"`
	Refresh         time.Duration `flag:"refresh" help:"how old a signature may be when it is given again, a quarter of validity at most; 0: as old as the site's copy"`
	NeverIssued     string        `flag:"never-issued" help:"what to say of serials never issued: <unknown|revoked|unauthorized>"`
	Profile         string        `flag:"profile" help:"the rules it obeys: <revocable|br> (br: the CA/Browser Forum's, for public TLS)"`
	CRLURL          string        `flag:"crl-url" help:"<URL> of the CRL of its responder certificates: http://HOST/crl/NAME, where HOST is all sites"`
	ArchiveCutoff   bool          `flag:"archive-cutoff" help:"say in answers that status is kept since the CA's notBefore, beyond a certificate's end; forbids db purge"`

	Given cli.Given
}

var defaults = policy{
	Validity: 72 * time.Hour, Backdate: 5 * time.Minute, FreshForUnknown: 15 * time.Minute, Refresh: 15 * time.Minute,
	NeverIssued: string(db.NeverIssuedUnknown), Profile: string(db.ProfileRevocable),
}

// onto returns a policy with the given flags, or with all.
func (f *policy) onto(p db.Policy, all bool) db.Policy {
	for flag, set := range map[string]func(){
		"validity":          func() { p.Validity = f.Validity },
		"backdate":          func() { p.Backdate = f.Backdate },
		"max-staleness":     func() { p.MaxStaleness = f.MaxStaleness },
		"fresh-for-unknown": func() { p.FreshForUnknown = f.FreshForUnknown },
		"http-max-age":      func() { p.HTTPMaxAge = f.HTTPMaxAge },
		"refresh":           func() { p.Refresh = f.Refresh },
		"never-issued":      func() { p.NeverIssued = db.NeverIssued(f.NeverIssued) },
		"profile":           func() { p.Profile = db.Profile(f.Profile) },
		"crl-url":           func() { p.CRLURL = f.CRLURL },
		"archive-cutoff":    func() { p.ArchiveCutoff = f.ArchiveCutoff },
	} {
		if all || f.Given.Given(flag) {
			set()
		}
	}
	return p
}

// settle sets the defaults that depend on others. A given 0 stays 0.
func (f *policy) settle() db.Policy {
	p := f.onto(db.Policy{}, true)
	if !f.Given.Given("max-staleness") {
		p.MaxStaleness = p.Validity / 2
		if p.Profile == db.ProfileBR {
			p.MaxStaleness = min(p.MaxStaleness, db.RenewalBR(p.Validity)-p.Backdate)
		}
	}
	if !f.Given.Given("http-max-age") {
		p.HTTPMaxAge = min(time.Hour, p.Validity/2)
	}
	return p
}

// checkPolicy refuses the faults of a policy that the master does not find: the limits are the
// master's own, and a plan checks them there.
func checkPolicy(p db.Policy) error {
	if p.CRLURL != "" && !config.IsCRLURL(p.CRLURL) {
		return cli.Usagef("--crl-url %q: want http://HOST/PATH, such as http://ocsp.example/crl/NAME (not https: RFC 5280 section 8)", p.CRLURL)
	}
	for _, d := range []time.Duration{p.Validity, p.Backdate, p.MaxStaleness, p.FreshForUnknown, p.HTTPMaxAge, p.Refresh} {
		if d%time.Second != 0 {
			return cli.Usagef("%s: want whole seconds", d)
		}
	}
	return nil
}
