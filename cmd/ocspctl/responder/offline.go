package responder

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ca"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/issuance"
)

// bundle is responder bundle.
type bundle struct {
	cli.Change
	Sites  []string      `arg:"[SITE...]"`
	Issuer string        `flag:"issuer,required" help:"the issuer's <NAME>"`
	CSR    string        `flag:"csr" help:"the certificate request of the one SITE, a new one or with a new key, in <FILE>"`
	URL    string        `flag:"url" help:"the <URL> of a new SITE's OCSP responder: it goes onto the roster"`
	Out    string        `flag:"out,required" help:"write the bundle to <FILE>"`
	Count  int           `flag:"count" help:"how many certificates for each site's key"`
	Every  time.Duration `flag:"every" help:"from the beginning of one to that of the next"`
	Life   time.Duration `flag:"life" help:"how long each lives"`
	feedPin
}

func (bundle) Doc() cli.Doc {
	return cli.Doc{
		Name: "bundle", Short: "draw up a series of certificates for a CA that has no network to sign",
		Long: `For a CA whose key has no network: plans a series of certificates that follow each
other, each with a serial of the CA's pool (responder serials), and writes a file for
ca-sign. The keys of a site are those of its last certificates, one of each kind, or of
the request given with --csr. The bundle tells the CA which keys and certificates are
denied. A site that is revoked loses the certificates of the series, too, signed or not.`,
		Example: `
		ocspctl responder bundle --issuer web-ca --out bundle.json
		ocspctl responder bundle site-b --csr site-b.csr --issuer web-ca --url http://site-b.example/ --count 8 --every 84h --out bundle.json --apply`,
	}
}

func (v *bundle) check() error {
	if v.CSR != "" && len(v.Sites) != 1 {
		return cli.Usagef("--csr is one site's request: name that SITE")
	}
	if v.URL != "" && (v.CSR == "" || !isSiteURL(v.URL)) {
		return cli.Usagef("--url %q: want http://HOST/ or https://HOST/, and the site's request with --csr", v.URL)
	}
	if v.Pin != "" && v.CSR == "" {
		return cli.Usagef("--feed-pin is for the SITE whose request --csr is; for others: ocspctl responder set")
	}
	return v.feedPin.check()
}

func (v *bundle) Run(ctx context.Context, m *ctl.Master) error {
	if err := v.check(); err != nil {
		return err
	}
	act, err := ctl.Act(v.Change)
	if err != nil {
		return err
	}
	issuer, err := m.Issuer(ctx, v.Issuer)
	if err != nil {
		return err
	}
	a, err := issuance.PublicAuthority(issuer, m.Now())
	if err != nil {
		return err
	}
	list, rows, err := v.plan(ctx, m, a)
	if err != nil {
		return err
	}
	if v.URL != "" || v.Pin != "" {
		if err := m.Store.Try(ctx, v.Apply, func(store *masterdb.DB) error { return v.enlist(ctx, store, act) }); err != nil {
			return err
		}
	}
	if v.Apply {
		denied, err := a.Denied(ctx, m.Store)
		if err != nil {
			return err
		}
		// The file is written before the plan is stored: a bundle that was not planned is refused
		// when it comes back, but a planned serial without a bundle is lost.
		err = m.Store.PlanResponderCertificates(ctx, rows, func() error {
			for i := range list {
				list[i].Serial = rows[i].Serial.String()
			}
			return ca.WriteFile(v.Out, a.Bundle(list, denied))
		}, act)
		if err != nil {
			return err
		}
	}
	shown := ca.Shown{Bundle: issuance.Bundle{Issuer: v.Issuer, Certificates: list}, File: v.Out}
	for _, row := range rows {
		shown.Keys = append(shown.Keys, hex.EncodeToString(row.KeyHash[:]))
	}
	return shown.Show(m.Program, v.Outcome(true))
}

// plan makes the series of each site.
func (v *bundle) plan(ctx context.Context, m *ctl.Master, a *issuance.Authority) ([]issuance.BundledCert, []masterdb.Planned, error) {
	roster, err := m.Store.Responders(ctx)
	if err != nil {
		return nil, nil, err
	}
	series := issuance.Series{Count: v.Count, Every: v.Every, Life: v.Life}
	var list []issuance.BundledCert
	var rows []masterdb.Planned
	for _, site := range v.wanted(roster, a.Issuer.ID) {
		proofs := a.LastProofs(roster, site, m.Now())
		if v.CSR != "" {
			csr, err := ctl.ReadSmall(v.CSR)
			if err != nil {
				return nil, nil, fmt.Errorf("reading the certificate request: %w", err)
			}
			proofs = [][]byte{csr}
		}
		if len(proofs) == 0 {
			return nil, nil, fmt.Errorf("site %q has no certificate of issuer %q to go by, or is not active: give its request with --csr", site, v.Issuer)
		}
		for _, proof := range proofs {
			certs, planned, err := a.Plan(site, proof, series, m.Now())
			if err != nil {
				return nil, nil, err
			}
			list, rows = append(list, certs...), append(rows, planned...)
		}
	}
	if len(list) == 0 {
		return nil, nil, fmt.Errorf("no active site has a certificate of issuer %q: name a SITE and give its request with --csr", v.Issuer)
	}
	return list, rows, nil
}

// enlist puts the one site on the roster, as requested.
func (v *bundle) enlist(ctx context.Context, store *masterdb.DB, act db.Act) error {
	if v.URL != "" {
		if _, err := store.AddResponder(ctx, v.Sites[0], v.URL, nil, act); err != nil {
			return err
		}
	}
	return v.feedPin.set(ctx, store, v.Sites[0], act)
}

// wanted returns the named sites, or the active ones that have a certificate of the issuer.
func (v *bundle) wanted(roster []masterdb.Responder, issuer db.IssuerID) []string {
	if len(v.Sites) > 0 {
		return v.Sites
	}
	var sites []string
	for _, r := range roster {
		if r.State == db.ResponderActive && slices.ContainsFunc(r.Certificates, func(c masterdb.RosterCertificate) bool { return c.IssuerID == issuer }) {
			sites = append(sites, r.Name)
		}
	}
	return sites
}

// release is responder release.
type release struct{ ca.Signed }

func (release) Doc() cli.Doc {
	return cli.Doc{
		Name: "release", Short: "put those certificates of a signed bundle among the rows whose time has come; for a timer",
		Long: `Run from a timer at the master. Each certificate must be what was planned under its
serial and bear the CA's signature. One that has not begun waits; nobody can use it
before it is released, since sites take certificates from the rows alone.`,
		Example: `
		ocspctl responder release signed.json
		ocspctl responder release signed.json --why 'timer' --apply`,
	}
}

func (v *release) Run(ctx context.Context, m *ctl.Master) error {
	b, err := v.Open(ctx, m)
	if err != nil {
		return err
	}
	if len(b.Certificates) == 0 {
		return fmt.Errorf("%s holds no certificates: those of ocspctl responder bundle do (CRLs: ocspctl crl release)", v.Path)
	}
	list, err := b.CA.Release(ctx, m.Store, &b.Bundle, v.Apply, m.Now(), b.Act)
	if err != nil {
		return err
	}
	shown, changed := ca.Shown{Bundle: issuance.Bundle{Issuer: b.Issuer}, File: v.Path}, false
	for _, done := range list {
		at := slices.IndexFunc(b.Certificates, func(c issuance.BundledCert) bool { return c.Serial == done.Serial })
		shown.Certificates, shown.Actions = append(shown.Certificates, b.Certificates[at]), append(shown.Actions, done.Action)
		changed = changed || done.Action == "released"
	}
	return shown.Show(m.Program, v.Outcome(changed))
}

// serials is responder serials.
type serials struct {
	cli.Change
	Path string `arg:"FILE"`
}

func (serials) Doc() cli.Doc {
	return cli.Doc{
		Name: "serials", Short: "take serials that the CA made into the master's pool",
		Long: `Certificates are planned with these serials and no others, so that nobody at the
master chooses what the CA signs. Serials that are in the pool, or issued, already are
passed over. Needs no CA key.`,
		Example: `
		ocspctl responder serials serials.json
		ocspctl responder serials serials.json --why 'for half a year' --apply`,
	}
}

func (v *serials) Run(ctx context.Context, m *ctl.Master) error {
	act, err := ctl.Act(v.Change)
	if err != nil {
		return err
	}
	var pool issuance.Serials
	if err := ca.ReadFile(m.Program, v.Path, "serials", &pool); err != nil {
		return err
	}
	issuer, err := m.Issuer(ctx, pool.Issuer)
	if err != nil {
		return err
	}
	list, err := pool.Read(issuer)
	if err != nil {
		return err
	}
	count := len(list)
	if v.Apply {
		added, err := m.Store.AddSerials(ctx, issuer.ID, list, act)
		if err != nil {
			return err
		}
		count = int(added)
	}
	spare, err := m.Store.SpareSerials(ctx, issuer.ID)
	if err != nil {
		return err
	}
	return ca.Pool(m.Program, v.Outcome(count > 0), issuer.Name, v.Path, count, &spare)
}
