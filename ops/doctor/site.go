package doctor

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

// Key is a key of the site's token.
type Key struct {
	Label string
	Kind  string   // p256, p384, rsa2048 or rsa3072
	Hash  [32]byte // SHA-256 of its SubjectPublicKeyInfo
}

// Token is a token of the site, with its keys.
type Token struct {
	Name       string   // its name for people
	Mechanisms []string // PKCS#11 names without CKM_, of those that are needed
	Most       int      // sessions that it allows; 0: no limit reported
	Keys       []Key
	Odd        []string // a sentence for each key that is not used or cannot be told from another, with the fix
}

// Pin is an issuer that ocspd is configured to serve.
type Pin struct {
	Name        string   // of the file, or the fingerprint
	Fingerprint [32]byte // SHA-256 of the certificate
	Err         error    // it could not be read
}

// Daemon is ocspd's own configuration.
type Daemon struct {
	Store         *sitedb.DB // by ocspd's own login
	Listen, Admin string
	Pins          []Pin
}

// Site examines a site.
type Site struct {
	Store *sitedb.DB
	// Tokens examines the tokens; nil: none is configured. With an error it also returns what
	// it could read.
	Tokens func(context.Context) ([]Token, error)
	// Daemon is nil when ocspd's configuration is missing; NoDaemon says why.
	Daemon   *Daemon
	NoDaemon string
	// Feed is nil when ocspsyncd's configuration has no feed, or is missing; in the latter case
	// NoFeed says so.
	Feed   *Feed
	NoFeed string
	Now    func() time.Time
}

// Examine examines everything.
func (s Site) Examine(ctx context.Context) []Result {
	f := &results{}
	keys, known := s.token(ctx, f)
	var issuers []db.Issuer
	if f.database(ctx, s.Store.DB, "site") {
		f.connections(ctx, s.Store.DB)
		if s.Feed == nil || s.Feed.Native {
			s.subscription(ctx, f)
			s.files(ctx, f)
		}
		if s.Feed != nil {
			s.feed(ctx, f)
		}
		var certificates []db.ResponderCertificate
		err := s.Store.ReadTx(ctx, func(ctx context.Context, l *sitedb.ReadTx) error {
			var err error
			if issuers, err = l.Issuers(ctx); err == nil {
				certificates, err = l.ResponderCertificates(ctx)
			}
			if err == nil {
				s.clock(f, l)
				s.age(f, l.Head.AsOf, issuers)
			}
			return err
		})
		switch {
		case errors.Is(err, db.ErrNoHead):
			f.fail("copy", "start ocspsyncd: it seeds the site", "the site was never seeded")
		case err != nil:
			f.fail("copy", "look at the login's rights: ocspctl db user add", "%v", err)
		default:
			f.rows(ctx, s.Store.DB, "start ocspsyncd, which seeds anew; who wrote here?")
			f.memory(ctx, s.Store)
			issuers = s.served(f, issuers)
			if known {
				s.certificates(ctx, f, issuers, certificates, keys)
				matches(f, issuers, certificates, keys)
			}
		}
	}
	f.kernelClock()
	s.daemon(ctx, f)
	return f.all
}

func (s Site) subscription(ctx context.Context, f *results) {
	const restart = "start ocspsyncd, or see why it does not mend it: its /readyz and log"
	sub, err := s.Store.Subscription(ctx, db.SubscriptionName)
	switch {
	case err != nil:
		f.warn("subscription", "use a login of group ocsp_sync, or the superuser's", "not looked at: %v", err)
	case !sub.Exists && s.guessed(ctx, f, sub):
	case !sub.Exists:
		f.fail("subscription", restart, "there is none")
	case !sub.Enabled:
		f.fail("subscription", restart, "somebody disabled it")
	case sub.Wrong != "":
		f.fail("subscription", restart, "%s", sub.Wrong)
	case sub.Tables < sitedb.Tables || sub.InStep != sub.Tables:
		f.fail("subscription", restart, "%d of %d tables are in step", sub.InStep, max(sub.Tables, sitedb.Tables))
	case !sub.Worker:
		f.fail("subscription", "is the master up, and does it let this site in? PostgreSQL's log says", "no worker is running")
	case sub.Errors > 0:
		f.warn("subscription", "PostgreSQL's log says what they were; lost connections count, too", "streams from slot %s; its worker broke off %d times so far", sub.Slot, sub.Errors)
	default:
		f.ok("subscription", "streams from slot %s, synchronous_commit is on", sub.Slot)
	}
}

// files checks the subscription to the signed files, if there is one.
func (s Site) files(ctx context.Context, f *results) {
	const restart = "start ocspsyncd, or see why it does not mend it: its /readyz and log"
	switch sub, err := s.Store.Subscription(ctx, db.FilesSubscriptionName); {
	case err != nil || !sub.Exists:
	case !sub.Enabled:
		f.fail("signed files", restart, "somebody disabled subscription %s: ocspd's copy ages", db.FilesSubscriptionName)
	case sub.Wrong != "":
		f.fail("signed files", restart, "%s", sub.Wrong)
	case !sub.Worker:
		f.fail("signed files", "is the master up, and does it let this site in? PostgreSQL's log says", "no worker brings them: ocspd's copy ages")
	default:
		f.ok("signed files", "stream from slot %s", sub.Slot)
	}
}

// guessed examines a site without a subscription whose configuration does not say how its rows
// come: if the copy is anchored in a stored checkpoint, they came by the signed feed.
func (s Site) guessed(ctx context.Context, f *results, sub sitedb.Subscription) bool {
	kept, err := s.Store.FeedCopy(ctx)
	if err != nil || !kept.Anchored {
		return false
	}
	if s.NoFeed != "" {
		f.warn("sources", "give --ocspsyncd-config FILE", "not looked at: %s", s.NoFeed)
	}
	note, err := s.Store.FeedNote(ctx)
	switch {
	case err != nil:
		f.warn("feed", "ocspsyncd's /readyz and log say which source fails", "the rows come by the signed feed, but no checkpoint is kept yet")
	case note.Position != sub.Position:
		f.warn("feed", "wait a moment and look again", "the rows are at position %d, the newest checkpoint at %d", sub.Position, note.Position)
	default:
		f.ok("feed", "rows and newest checkpoint are at position %d, segment %d", note.Position, note.Number)
	}
	return true
}

// clock checks this machine's clock against ocspsyncd's measurement or, if possible, against
// the master's clock just now.
func (s Site) clock(f *results, l *sitedb.ReadTx) {
	const mend = "mend the clock of this machine or of the master: chronyc tracking"
	asks := s.Feed == nil // with native replication ocspsyncd compares it
	if s.Feed != nil {
		for _, source := range s.Feed.Sources {
			asks = asks || source.Master
			if source.HasSkew {
				l = &sitedb.ReadTx{HasSkew: true, Skew: source.Skew}
			}
		}
	}
	skew := l.Skew.Abs()
	switch {
	case !l.HasSkew && !asks: // the check of the sources reports it
	case !l.HasSkew:
		f.warn("clock", "start ocspsyncd: it asks the master", "was never compared with the master's")
	case skew > db.MaxClockSkew:
		f.fail("clock", mend, "is %s from the master's: good ends at %s", l.Skew, db.MaxClockSkew)
	case l.SkewAge > 10*time.Minute:
		f.warn("clock", "start ocspsyncd; is the master up?", "was compared with the master's %s ago, the last time", span(l.SkewAge))
	case skew > db.MaxClockSkew/5:
		f.warn("clock", mend, "is %s from the master's: good ends at %s", l.Skew, db.MaxClockSkew)
	default:
		f.ok("clock", "is %s from the master's", l.Skew)
	}
}

// age checks how old the copy is. A minute is twelve heartbeats.
func (s Site) age(f *results, asOf time.Time, issuers []db.Issuer) {
	if len(issuers) == 0 {
		f.fail("issuers", "ocspctl issuer add, at the master", "there is none in the database")
		return
	}
	limit := issuers[0].Policy.MaxStaleness
	for _, i := range issuers {
		limit = min(limit, i.Policy.MaxStaleness)
	}
	const fix = "is the master's ocspsyncd alive, and does replication stream? ocspctl doctor, at the master"
	switch age := s.Now().Sub(asOf); {
	case age > limit:
		f.fail("age", fix, "the copy is %s old: good has ended at %s", span(age), span(limit))
	case age > time.Minute:
		f.warn("age", fix, "the copy is %s old: good ends at %s", span(age), span(limit))
	case age < -db.MaxClockSkew:
		f.fail("age", "mend the clocks", "the copy is of a time %s ahead of this machine", span(-age))
	default:
		f.ok("age", "the copy is %s old: without the master, good ends in %s", span(max(0, age)), span(limit-age))
	}
}

// memory compares the rows with all permanent revocations that this site has received.
func (f *results) memory(ctx context.Context, store *sitedb.DB) {
	const fix = "at the master: ocspctl fleet lost --site-config FILE; if it was wrongly revoked, ocspctl cert correct"
	switch count, example, err := store.TakenBack(ctx); {
	case err != nil:
		f.fail("memory", "ocspctl db migrate", "%v", err)
	case count > 0:
		f.fail("memory", fix, "the rows have lost %d permanent revocations that this site remembers, %s among them: ocspd answers revoked for them, and nothing is good", count, example)
	default:
		f.ok("memory", "the rows have every permanent revocation that came here")
	}
}

// served compares the issuers in the database with those that ocspd pins, and returns those in
// both.
func (s Site) served(f *results, issuers []db.Issuer) []db.Issuer {
	if s.Daemon == nil {
		return issuers
	}
	var served []db.Issuer
	for _, pin := range s.Daemon.Pins {
		if pin.Err != nil {
			f.fail("issuers", "look at issuers in ocspd's configuration", "%s: %v", pin.Name, pin.Err)
			continue
		}
		at := slices.IndexFunc(issuers, func(i db.Issuer) bool { return sha256.Sum256(i.Certificate) == pin.Fingerprint })
		if at < 0 {
			// Another certificate of the same key works as well, but only ocspd can see that.
			f.warn("issuers", "ocspctl issuer add --cert, at the master; or take it out of ocspd's configuration", "%s is pinned, and no issuer of the database has this certificate", pin.Name)
			continue
		}
		served = append(served, issuers[at])
	}
	for _, i := range issuers {
		if !slices.ContainsFunc(served, func(o db.Issuer) bool { return o.ID == i.ID }) {
			f.warn("issuers", "add its certificate to issuers in ocspd's configuration, if this site is to serve it", "%q is in the database and not pinned: it is answered unauthorized", i.Name)
		}
	}
	if len(served) > 0 {
		f.ok("issuers", "%d are served", len(served))
	}
	return served
}

func (s Site) daemon(ctx context.Context, f *results) {
	d := s.Daemon
	if d == nil {
		f.warn("ocspd", "give --ocspd-config FILE", "not looked at: %s", s.NoDaemon)
		return
	}
	rights(ctx, f, d.Store)
	const start = "systemctl start ocspd; its log says why it stopped"
	switch code, text, err := get(ctx, d.Admin, "/readyz"); {
	case err != nil:
		f.fail("ocspd admin", start, "%v", err)
	case code != http.StatusOK:
		f.fail("ocspd admin", "docs/operations.md says what each reason means", "%s/readyz says %d: %s", d.Admin, code, text)
	default:
		f.ok("ocspd admin", "%s/readyz says that it is ready", d.Admin)
	}
	if code, _, err := get(ctx, d.Listen, "/"); err != nil {
		f.fail("ocspd public", start, "%v", err)
	} else {
		f.ok("ocspd public", "%s answers (%d)", d.Listen, code)
	}
}

// rights checks the login of the process that faces the internet.
func rights(ctx context.Context, f *results, store *sitedb.DB) {
	const fix = "ocspctl db user add NAME --role responder, and name it in ocspd's database.dsn"
	l, err := store.Login(ctx)
	switch {
	case err != nil:
		f.fail("rights", fix, "%v", err)
	case l.Superuser:
		f.fail("rights", fix, "ocspd logs in as superuser %s", l.Name)
	case len(l.Writes) > 0:
		f.fail("rights", fix, "ocspd's login %s may write %s", l.Name, strings.Join(l.Writes, ", "))
	case !slices.Equal(l.Groups, []db.Role{db.RoleResponder}):
		f.fail("rights", fix, "ocspd's login %s is a member of %v, not of %s alone", l.Name, l.Groups, db.RoleResponder)
	default:
		f.ok("rights", "ocspd's login %s reads and cannot write", l.Name)
	}
}

// certificates checks, for each issuer, the certificate that ocspd would choose: the one that
// ends last among those whose key is in the token.
func (s Site) certificates(ctx context.Context, f *results, issuers []db.Issuer, rows []db.ResponderCertificate, keys []Key) {
	for _, issuer := range issuers {
		check := "certificate " + issuer.Name
		ca, err := x509.ParseCertificate(issuer.Certificate)
		if err != nil {
			f.fail(check, "the master's row is damaged: ocspctl db verify", "reading the issuer's certificate: %v", err)
			continue
		}
		var best *x509.Certificate
		var row db.ResponderCertificate
		for _, r := range rows {
			mine := slices.ContainsFunc(keys, func(k Key) bool { return k.Hash == r.KeyHash })
			if r.IssuerID != issuer.ID || !mine {
				continue
			}
			if c, err := x509.ParseCertificate(r.DER); err == nil && (best == nil || c.NotAfter.After(best.NotAfter)) {
				best, row = c, r
			}
		}
		if best == nil {
			f.fail(check, "ocspctl key csr SITE, and have the CA's staff run ocspctl responder add SITE --csr FILE --apply", "there is none for a key of this token")
			continue
		}
		s.certificate(ctx, f, check, best, ca, row)
	}
}

func (s Site) certificate(ctx context.Context, f *results, check string, c, ca *x509.Certificate, row db.ResponderCertificate) {
	const renew = "have the CA's staff run ocspctl responder renew SITE --apply, and look at their timer"
	now := s.Now()
	status, err := s.Store.Certificate(ctx, row.IssuerID, row.Serial)
	left, life := c.NotAfter.Sub(now), c.NotAfter.Sub(c.NotBefore)
	switch {
	case err != nil:
		f.fail(check, renew, "%s: %v", row.Serial, err)
	case status.Revoked:
		f.fail(check, "make a new key, and have it enrolled under a new name", "%s is revoked since %s", row.Serial, status.RevokedAt.Format(time.RFC3339))
	case row.KeyHash != sha256.Sum256(c.RawSubjectPublicKeyInfo):
		f.fail(check, renew, "%s is for another key than its row says", row.Serial)
	case string(c.RawIssuer) != string(ca.RawSubject):
		f.fail(check, renew, "%s was not issued by %q (RFC 6960 section 4.2.2.2)", row.Serial, ca.Subject)
	case c.CheckSignatureFrom(ca) != nil:
		f.fail(check, renew, "%s does not bear the issuer's signature: %v", row.Serial, c.CheckSignatureFrom(ca))
	case !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}) || len(c.UnknownExtKeyUsage) > 0:
		f.fail(check, renew, "%s has another extended key usage than OCSPSigning alone", row.Serial)
	case now.Before(c.NotBefore):
		f.fail(check, "mend this machine's clock, or wait", "%s begins at %s", row.Serial, c.NotBefore.UTC().Format(time.RFC3339))
	case left <= 0:
		f.fail(check, renew, "%s has expired at %s", row.Serial, c.NotAfter.UTC().Format(time.RFC3339))
	case left < life/3:
		f.warn(check, renew, "%s ends in %s, less than a third of its life", row.Serial, span(left))
	default:
		f.ok(check, "%s: key, chain and use are right, it ends in %s", row.Serial, span(left))
	}
}
