package sites

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/db/upstream"
	"ocspfleet/integration/testkit/catest"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
	"ocspfleet/ops/certprofile"
	"ocspfleet/ops/issuance"
)

// sitesMade numbers the sites with a login: logins are the cluster's, which the tests share.
var sitesMade atomic.Int64

// withdrawn is a master with a site that replicates, and another one.
type withdrawn struct {
	store  *masterdb.DB // by an operator's login
	super  string       // DSN
	a      *issuance.Authority
	site   string
	stream *masterdb.DB // a session of the site's login
	login  string       // DSN
}

const password = "a-password-of-tests"

// openAs opens the database by another login.
func openAs(t *testing.T, dsn, login string) (*masterdb.DB, string) {
	t.Helper()
	u := must(url.Parse(dsn))
	u.User = url.UserPassword(login, password)
	store, err := masterdb.Open(t.Context(), tables.Config{DSN: u.String(), MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store, u.String()
}

func newWithdrawn(t *testing.T) *withdrawn {
	t.Helper()
	n := sitesMade.Add(1)
	w := &withdrawn{super: dbtest.New(t, migrations.Master), site: fmt.Sprintf("site-w%d", n), a: newCA(t, p256(), db.ProfileRevocable)}
	const place = "http://ocsp.example/crl/ca"
	w.a.Issuer.Policy.CRLURL, w.a.Rules.CRLURL = place, place
	super, err := masterdb.Open(t.Context(), tables.Config{DSN: w.super})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(super.Close)
	if err := super.InitHead(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	catest.Register(t, super, &w.a.Issuer)
	operator, replica := fmt.Sprintf("operator_w%d", n), strings.ReplaceAll(w.site, "-", "_")
	for login, role := range map[string]db.Role{operator: db.RoleOperator, replica: db.RoleReplica} {
		if err := super.CreateLogin(t.Context(), login, role, password, act); err != nil {
			t.Fatal(err)
		}
	}
	w.store, _ = openAs(t, w.super, operator)
	enrol(t, w.store, w.a, "site-other", "http://other.example/")
	key, _ := enrol(t, w.store, w.a, w.site, "http://w.example/")
	again := must(issuance.ParseRequest(csr(key, w.site), w.site)) // the first one is superseded
	if _, err := issuance.Enrol(t.Context(), w.store, w.a, again, certprofile.DefaultLife, now, rand.Reader, act); err != nil {
		t.Fatal(err)
	}
	w.stream, w.login = openAs(t, w.super, replica)
	if _, err := w.stream.Head(t.Context()); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, w.super, "select pg_create_logical_replication_slot('"+db.SlotPrefix(w.site)+"1790000000000', 'pgoutput')")
	t.Cleanup(func() { // a test that stopped early must not leave a slot: its database could not be dropped
		dbtest.Exec(t, w.super, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database() and not active")
	})
	return w
}

func (w *withdrawn) run(t *testing.T) Lifecycle {
	return Lifecycle{Store: w.store, Site: w.site, Act: act, CRL: func(ctx context.Context) (string, error) {
		issuers, err := w.store.Issuers(ctx)
		if err != nil {
			return "", err
		}
		w.a.Issuer = issuers[0]
		c, _, err := issuance.IssueCRL(ctx, w.store, w.a, issuance.CRLLife, rand.Reader, act)
		return fmt.Sprintf("number %d", c.Number), err
	}}
}

// refused waits until the site's login is turned away.
func (w *withdrawn) refused(t *testing.T) {
	t.Helper()
	again, err := masterdb.Open(t.Context(), tables.Config{DSN: w.login, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.Ping(t.Context()); !upstream.IsAccessDenied(err) {
		t.Errorf("the site's login: %v, want that it may not log in", err)
	}
	if _, err := w.stream.Head(t.Context()); err == nil {
		t.Error("its session lives")
	}
}

func (w *withdrawn) statuses(t *testing.T) (site masterdb.Responder, reasons []db.Reason) {
	t.Helper()
	for _, r := range must(w.store.Responders(t.Context())) {
		if r.Name == w.site {
			site = r
		}
	}
	for _, c := range site.Certificates {
		reasons = append(reasons, c.Status.Reason)
	}
	return site, reasons
}

// Broken off before any of its steps, a revocation is run again and ends alike.
func TestRevocationIsRunAgainFromAnywhere(t *testing.T) {
	steps := Lifecycle{}.Revoke(db.ReasonKeyCompromise)
	for i, broken := range append(steps, Step{Name: "none"}) {
		t.Run(broken.Name, func(t *testing.T) {
			t.Parallel()
			w := newWithdrawn(t)
			run := w.run(t)
			crash := errors.New("the power went")
			run.before = func(step string) error {
				if step == broken.Name {
					return crash
				}
				return nil
			}
			done := 0
			err := run.Run(t.Context(), run.Revoke(db.ReasonKeyCompromise), func(Step) { done++ })
			if done != i || (broken.Name != "none") != errors.Is(err, crash) {
				t.Fatalf("%d steps done, %v", done, err)
			}
			run.before = nil
			if err := run.Run(t.Context(), run.Revoke(db.ReasonKeyCompromise), func(s Step) {
				if s.Result == "" {
					t.Errorf("step %s says nothing", s.Name)
				}
			}); err != nil {
				t.Fatal(err)
			}
			w.revokedForEver(t)
		})
	}
}

// revokedForEver looks at everything that a revocation promises.
func (w *withdrawn) revokedForEver(t *testing.T) {
	t.Helper()
	site, reasons := w.statuses(t)
	if site.State != db.ResponderRevoked || len(reasons) != 2 || reasons[0] != db.ReasonKeyCompromise || reasons[1] != db.ReasonKeyCompromise {
		t.Errorf("state %s, reasons %v", site.State, reasons)
	}
	w.refused(t)
	access, err := w.store.SiteAccess(t.Context(), w.site)
	if err != nil || access.Login == "" || access.Open || access.Slots != 0 {
		t.Errorf("access %+v, %v", access, err)
	}
	if err := w.store.CheckResponderKey(t.Context(), site.Certificates[0].KeyHash, w.site); err == nil {
		t.Error("its key may be enrolled again")
	}
	issuer := must(w.store.Issuers(t.Context()))[0]
	list := must(x509.ParseRevocationList(issuer.CRL))
	if len(list.RevokedCertificateEntries) != 2 || list.RevokedCertificateEntries[0].ReasonCode != 1 {
		t.Errorf("CRL %+v", list.RevokedCertificateEntries)
	}
	if err := must(x509.ParseCertificate(issuer.Certificate)).CheckSignature(list.SignatureAlgorithm, list.RawTBSRevocationList, list.Signature); err != nil {
		t.Error(err)
	}
	for _, c := range must(w.store.Verify(t.Context())) {
		if !c.Identical {
			t.Errorf("rows and head differ: %+v", c)
		}
	}
}

// What a suspension takes, a restoration gives back; a revocation is for ever.
func TestSuspendedSiteComesBack(t *testing.T) {
	w := newWithdrawn(t)
	run := w.run(t)
	nothing := func(Step) {}
	for range 2 { // again: nothing breaks
		if err := run.Run(t.Context(), run.Suspend(), nothing); err != nil {
			t.Fatal(err)
		}
	}
	w.refused(t)
	site, reasons := w.statuses(t)
	if site.State != db.ResponderSuspended || reasons[0] != db.ReasonCertificateHold || reasons[1] != db.ReasonCertificateHold {
		t.Errorf("state %s, reasons %v", site.State, reasons)
	}
	if access, err := w.store.SiteAccess(t.Context(), w.site); err != nil || access.Slots != 1 {
		t.Errorf("its slot is gone: %+v, %v", access, err)
	}
	if _, err := w.store.OpenSiteLogin(t.Context(), w.site, true, act); err == nil {
		t.Error("a suspended site's login was opened")
	}
	for range 2 {
		if err := run.Run(t.Context(), run.Restore(), nothing); err != nil {
			t.Fatal(err)
		}
	}
	if site, reasons = w.statuses(t); site.State != db.ResponderActive || reasons[0] != db.ReasonNone || reasons[1] != db.ReasonNone {
		t.Errorf("state %s, reasons %v", site.State, reasons)
	}
	again, _ := openAs(t, w.super, strings.ReplaceAll(w.site, "-", "_"))
	if err := again.Ping(t.Context()); err != nil {
		t.Errorf("its login: %v", err)
	}
	if _, err := w.store.CutSite(t.Context(), w.site); err == nil {
		t.Error("an active site was cut off")
	}
	if _, err := w.store.DropSiteSlots(t.Context(), w.site); err == nil {
		t.Error("an active site's slots were dropped")
	}
	if err := run.Run(t.Context(), run.Revoke(db.ReasonSuperseded), nothing); err != nil {
		t.Fatal(err)
	}
	if err := run.Run(t.Context(), run.Restore(), nothing); err == nil || !strings.Contains(err.Error(), "is revoked for ever") {
		t.Errorf("restoring a revoked site: %v", err)
	}
}

// An issuer of profile br knows no hold: its certificates leave the rows, unrevoked,
// and come back; the site that is revoked meanwhile loses them too.
func TestSuspensionWithoutHoldWithholdsTheCertificates(t *testing.T) {
	store := catest.Master(t).Master
	a := newCA(t, p256(), db.ProfileBR)
	catest.Register(t, store, &a.Issuer)
	enrol(t, store, a, "site-b", "http://b.example/")
	_, c := enrol(t, store, a, "site-a", "http://a.example/")
	w := &withdrawn{store: store, a: a, site: "site-a"}
	look := func(state db.ResponderState, withheld bool, rows int64, reason db.Reason) {
		t.Helper()
		site, reasons := w.statuses(t)
		if site.State != state || len(reasons) != 1 || reasons[0] != reason || site.Certificates[0].Withheld != withheld || !bytes.Equal(site.Certificates[0].DER, c.DER) {
			t.Errorf("state %s, reasons %v, certificates %+v", site.State, reasons, site.Certificates)
		}
		if head := must(store.Head(t.Context())); head.ResponderCertificates.Count != rows {
			t.Errorf("%d responder certificates travel, want %d", head.ResponderCertificates.Count, rows)
		}
		for _, count := range must(store.Verify(t.Context())) {
			if !count.Identical {
				t.Errorf("rows and head differ: %+v", count)
			}
		}
	}
	for i := range 3 {
		list, err := store.SuspendResponder(t.Context(), w.site, act)
		if err != nil || len(list) != 1 || list[0].Changed != (i != 1) {
			t.Fatalf("suspending: %+v, %v", list, err)
		}
		look(db.ResponderSuspended, true, 1, db.ReasonNone)
		if i == 0 {
			continue // once more: nothing is left to be done
		}
		if i == 2 {
			break
		}
		for _, n := range []int{1, 0} {
			if list, err := store.RestoreResponder(t.Context(), w.site, act); err != nil || len(list) != n {
				t.Fatalf("restoring: %+v, %v", list, err)
			}
			look(db.ResponderActive, false, 2, db.ReasonNone)
		}
	}
	if list, err := store.RevokeResponder(t.Context(), w.site, db.ReasonKeyCompromise, act); err != nil || len(list) != 1 || !list[0].Changed {
		t.Fatalf("revoking: %+v, %v", list, err)
	}
	look(db.ResponderRevoked, true, 1, db.ReasonKeyCompromise)
}

// Two CRLs at once: the one whose rows are older is refused.
func TestOlderCRLDoesNotReplaceANewerOne(t *testing.T) {
	w := newWithdrawn(t)
	issuer := w.a.Issuer.ID
	first, second := must(w.store.NextCRL(t.Context(), issuer, 1)), must(w.store.NextCRL(t.Context(), issuer, 1))
	if second <= first {
		t.Errorf("numbers %d, %d", first, second)
	}
	rows := must(w.store.CRLRows(t.Context(), issuer, false, time.Now()))
	if err := w.store.PutCRL(t.Context(), issuer, second, rows.Position, []byte{1}, 0, act); err != nil {
		t.Fatal(err)
	}
	third := must(w.store.NextCRL(t.Context(), issuer, 1))
	for why, err := range map[string]error{
		"a lower number": w.store.PutCRL(t.Context(), issuer, first, rows.Position, []byte{2}, 0, act),
		"older rows":     w.store.PutCRL(t.Context(), issuer, third, rows.Position-1, []byte{2}, 0, act),
		"never taken":    w.store.PutCRL(t.Context(), issuer, third+1, rows.Position, []byte{2}, 0, act),
	} {
		if err == nil || !strings.Contains(err.Error(), "a newer CRL") {
			t.Errorf("%s: %v", why, err)
		}
	}
}
