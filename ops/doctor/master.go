package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/sitedb"
)

// Master examines the master.
type Master struct {
	Store *masterdb.DB
	Now   func() time.Time
	// Zone tests the zone of the sites' addresses and describes its state. nil: none is
	// configured.
	Zone func(context.Context) (string, error)
	// Corrections counts the corrections of the master, and those that no site accepts. nil: no
	// root is configured to verify them by.
	Corrections func(context.Context) (all, unbelieved int, err error)
	// Forks are the contradictions of the feed that sites reported and that are not settled.
	// nil: no root is configured to verify them by.
	Forks func(context.Context) ([]Fork, error)
	// Publisher is nil when ocspsyncd's configuration is missing; NoPublisher says so.
	Publisher   *Publisher
	NoPublisher string
}

// silence is how long a master may be without a heartbeat: three default intervals.
const silence = 15 * time.Second

// Examine examines everything.
func (m Master) Examine(ctx context.Context) []Result {
	f := &results{}
	if !f.database(ctx, m.Store.DB, "master") {
		f.kernelClock()
		return f.all
	}
	head, err := m.Store.Head(ctx)
	switch {
	case errors.Is(err, db.ErrNoHead):
		f.fail("head", "ocspctl db init --role master", "there is none")
	case err != nil:
		f.fail("head", "look at the login's rights", "%v", err)
	default:
		f.ok("head", "epoch %d, position %d, %d audit entries", head.Epoch, head.Position, head.AuditCount)
		f.rows(ctx, m.Store.DB, "who wrote past the triggers? ocspctl audit verify; docs/operations.md")
	}
	m.login(ctx, f)
	state, err := m.Store.MasterState(ctx)
	if err != nil {
		f.fail("settings", "use a login of group ocsp_operator", "%v", err)
	} else {
		heartbeat(f, state)
		settings(f, state, m.native(ctx))
		slots(f, state)
	}
	f.connections(ctx, m.Store.DB)
	m.issuers(ctx, f)
	m.sites(ctx, f)
	m.zone(ctx, f)
	m.corrections(ctx, f)
	m.forks(ctx, f)
	m.publisher(ctx, f, head)
	f.kernelClock()
	return f.all
}

func (m Master) corrections(ctx context.Context, f *results) {
	if m.Corrections == nil {
		return
	}
	switch all, unbelieved, err := m.Corrections(ctx); {
	case err != nil:
		f.warn("corrections", "docs/feed-keys.md says how a key for them is made and named", "not looked at: %v", err)
	case unbelieved > 0:
		f.fail("corrections", "who wrote them? ocspctl audit verify; those that are right are requested anew: ocspctl cert correct",
			"%d of %d do not verify under the key set in force: sites that know the revocation go on saying revoked", unbelieved, all)
	default:
		f.ok("corrections", "%d, and all verify", all)
	}
}

func (m Master) login(ctx context.Context, f *results) {
	const fix = "ocspctl db user add NAME --role operator, and use that login for daily work"
	l, err := m.Store.Login(ctx)
	switch {
	case err != nil:
		f.fail("rights", fix, "%v", err)
	case l.Superuser:
		f.warn("rights", fix, "this is superuser %s: no rule of the database binds it", l.Name)
	case len(l.Writes) > 0:
		f.fail("rights", fix, "login %s may write %s past the functions", l.Name, strings.Join(l.Writes, ", "))
	default:
		f.ok("rights", "login %s works through the functions alone", l.Name)
	}
	if err == nil && !l.SeesAll {
		f.warn("sessions", "run doctor with the superuser's configuration, too", "what other sessions do is not shown to login %s", l.Name)
	}
}

func heartbeat(f *results, m masterdb.MasterState) {
	const fix = "start ocspsyncd at the master; its log names who blocks the head"
	switch age := m.Clock.Sub(m.Confirmed); {
	case m.Confirmed.IsZero():
		f.fail("heartbeat", fix, "there was none yet, or the login may not see it: every copy ages")
	case age > silence:
		f.fail("heartbeat", fix, "the last one was %s ago: every copy ages", span(age))
	default:
		f.ok("heartbeat", "the last one was %s ago", span(max(0, age)))
	}
	if len(m.Idle) > 0 {
		f.fail("sessions", "end them: select pg_terminate_backend(PID)", "idle in a transaction, which may hold the head: %s", strings.Join(m.Idle, "; "))
	}
}

// queueHalf is how full the queue of notifications may be: PostgreSQL warns at the same level.
const queueHalf = 0.5

func settings(f *results, m masterdb.MasterState, native bool) {
	before := len(f.all)
	if m.Standby {
		f.fail("settings", "use the dsn of the primary", "this is a standby: nothing can be written here")
	}
	const logical = "alter system set wal_level = logical; restart PostgreSQL"
	switch {
	case m.WALLevel == "logical":
	case native:
		f.fail("settings", logical, "wal_level is %s: sites without a feed key are on the roster, and none can follow by native replication", m.WALLevel)
	default:
		f.warn("settings", logical, "wal_level is %s: sites can follow by the feed alone", m.WALLevel)
	}
	if m.Prepared > 0 {
		f.fail("settings", "rollback prepared, each: select gid from pg_prepared_xacts", "%d prepared transactions may hold the head for ever", m.Prepared)
	}
	if m.MaxPrepared > 0 {
		f.warn("settings", "alter system set max_prepared_transactions = 0; restart PostgreSQL", "max_prepared_transactions is %d: a forgotten one holds the head for ever", m.MaxPrepared)
	}
	if m.MaxSlotKeep < 0 {
		f.warn("settings", "alter system set max_slot_wal_keep_size = '10GB'; select pg_reload_conf()", "max_slot_wal_keep_size is unlimited: a site that is away fills this disk")
	}
	if !m.Durable {
		f.warn("settings", "alter system set fsync = on, full_page_writes = on, and reset synchronous_commit where it was set (alter system, database or role)", "fsync, full_page_writes or synchronous_commit is off: a crash of this machine may lose revocations")
	}
	if m.Queue > queueHalf {
		f.fail("notifications", "end who listens and stays in a transaction: select pid from pg_stat_activity order by xact_start", "their queue is %.0f %% full: once it is, no COMMIT that notifies succeeds", m.Queue*100)
	}
	if len(m.OldSnapshots) > 0 {
		f.warn("snapshots", "end them, or have a superuser allow that login: insert into ocsp_internal.long_transaction values (LOGIN)", "dead rows cannot be cleared because of %s", strings.Join(m.OldSnapshots, "; "))
	}
	if m.Published < sitedb.Tables {
		f.fail("settings", "ocspctl db migrate --role master", "the publication has %d of %d tables", m.Published, sitedb.Tables)
	}
	if m.ReplicasSlack < 1 {
		f.warn("settings", "raise max_wal_senders and max_replication_slots; restart PostgreSQL", "no slot or walsender is free for another seed")
	}
	if len(f.all) == before {
		f.ok("settings", "PostgreSQL %s is set as it must be", m.Version)
	}
}

func slots(f *results, m masterdb.MasterState) {
	for _, s := range m.Slots {
		check := "slot " + s.Name
		switch half := m.MaxSlotKeep / 2; {
		case s.Site == "" && !s.Allowed:
			f.fail(check, "select pg_drop_replication_slot(NAME), or ocspctl db slot NAME --allow --apply by the DBA, if it is a standby's",
				"is neither a site's nor allowed by the DBA: whoever made it reads the whole cluster, and keeps %d MiB", s.Lag>>20)
		case s.Status == "lost":
			f.fail(check, "the site's ocspsyncd seeds anew by itself; else select pg_drop_replication_slot(NAME)", "is lost: the site was away for too long")
		case m.MaxSlotKeep > 0 && s.Lag > half:
			f.fail(check, "bring the site back, or drop the slot", "%d MiB are kept for it, over half of max_slot_wal_keep_size", s.Lag>>20)
		case !s.Active:
			f.warn(check, "is the site up? If it is gone for good: select pg_drop_replication_slot(NAME)", "nobody reads it; %d MiB are kept for it", s.Lag>>20)
		default:
			f.ok(check, "is read; %d MiB are kept for it", s.Lag>>20)
		}
	}
	if len(m.Slots) == 0 {
		f.warn("slots", "start ocspsyncd at a site: it makes its own", "there is none: no site follows by replication")
	}
}

// zone tests what responder revoke needs.
func (m Master) zone(ctx context.Context, f *results) {
	if m.Zone == nil {
		f.ok("dns", "no zone is configured: addresses are changed by hand (docs/dns.md)")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, zonePatience)
	defer cancel()
	if text, err := m.Zone(ctx); err != nil {
		f.fail("dns", "see dns in ocspctl.yaml and docs/dns.md: a site that is revoked would stay in the DNS", "%v", err)
	} else {
		f.ok("dns", "%s", text)
	}
}

// zonePatience bounds the queries to the zone's primary: three tries each.
const zonePatience = 20 * time.Second

// caWarning is how long before the end of a CA's certificate doctor warns: enough time to
// distribute a new CA.
const caWarning = 180 * 24 * time.Hour

func (m Master) issuers(ctx context.Context, f *results) {
	issuers, err := m.Store.Issuers(ctx)
	if err != nil {
		f.fail("issuers", "look at the login's rights", "%v", err)
		return
	}
	if len(issuers) == 0 {
		f.warn("issuers", "ocspctl issuer add --name NAME --cert FILE --apply", "there is none yet")
	}
	for _, i := range issuers {
		check := "issuer " + i.Name
		c, err := x509.ParseCertificate(i.Certificate)
		switch {
		case err != nil:
			f.fail(check, "ocspctl db verify", "its certificate cannot be read: %v", err)
		case !m.Now().Before(c.NotAfter):
			f.fail(check, "its last certificates end with it: nothing is left to serve", "has expired at %s", c.NotAfter.UTC().Format(time.RFC3339))
		case c.NotAfter.Sub(m.Now()) < caWarning:
			f.warn(check, "responder certificates cannot outlive it: prepare the next CA", "ends in %s", span(c.NotAfter.Sub(m.Now())))
		default:
			f.ok(check, "ends in %s", span(c.NotAfter.Sub(m.Now())))
		}
	}
}

// sites checks the certificates of the roster's active sites.
func (m Master) sites(ctx context.Context, f *results) {
	roster, err := m.Store.Responders(ctx)
	if err != nil {
		f.warn("sites", "use a login of group ocsp_operator", "not looked at: %v", err)
		return
	}
	m.serials(ctx, f, roster)
	for _, site := range roster {
		if site.State != db.ResponderActive {
			continue
		}
		last := map[db.IssuerID]masterdb.RosterCertificate{} // the longest-lived per issuer comes last
		for _, c := range site.Certificates {
			if !c.Status.Revoked {
				last[c.IssuerID] = c
			}
		}
		if len(last) == 0 {
			f.fail("site "+site.Name, "ocspctl responder add "+site.Name+" --csr FILE --apply", "is active and has no certificate")
			continue
		}
		var ends []time.Time
		var lives []time.Duration
		for _, c := range last {
			parsed, err := x509.ParseCertificate(c.DER)
			if err != nil {
				f.fail("site "+site.Name, "ocspctl db verify", "its certificate %s cannot be read: %v", c.Serial, err)
				continue
			}
			ends, lives = append(ends, parsed.NotAfter), append(lives, parsed.NotAfter.Sub(parsed.NotBefore))
		}
		m.siteLife(f, site.Name, ends, lives)
	}
}

func (m Master) siteLife(f *results, name string, ends []time.Time, lives []time.Duration) {
	if len(ends) == 0 {
		return
	}
	left := slices.MinFunc(ends, time.Time.Compare).Sub(m.Now())
	const renew = "ocspctl fleet renew --apply, and look at its timer (ocspfleet-renew.timer)"
	switch {
	case left <= 0:
		f.fail("site "+name, renew, "a certificate of it has expired")
	case left < slices.Min(lives)/3:
		f.warn("site "+name, renew, "its certificate ends in %s, less than a third of its life", span(left))
	default:
		f.ok("site "+name, "its certificates last for %s", span(left))
	}
}
