package sites

import (
	"errors"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
)

// Broken off before any of its steps, leaving is run again and ends alike.
func TestLeavingIsRunAgainFromAnywhere(t *testing.T) {
	w := newWithdrawn(t)
	run := w.run(t)
	run.ByHand = true
	crash := errors.New("the power went")
	steps := run.Leave()
	for i, broken := range append(steps, Step{Name: "none"}) {
		run.before = func(step string) error {
			if step == broken.Name {
				return crash
			}
			return nil
		}
		done := 0
		err := run.Run(t.Context(), run.Leave(), func(s Step) {
			if done++; s.Result == "" {
				t.Errorf("step %s says nothing", s.Name)
			}
		})
		if done != i || (broken.Name != "none") != errors.Is(err, crash) {
			t.Fatalf("%d steps done, %v", done, err)
		}
		site, _ := w.statuses(t)
		if left := i > 2; (site.State == db.ResponderLeft) != left { // DNS and TTL come first
			t.Fatalf("before %s it is %s", broken.Name, site.State)
		}
	}

	// Its certificates are good, its access is gone, and nothing of it comes back.
	site, reasons := w.statuses(t)
	if len(site.Certificates) != 2 || site.Certificates[0].Status.Revoked || site.Certificates[1].Status.Revoked {
		t.Errorf("reasons %v", reasons)
	}
	w.refused(t)
	if access := must(w.store.SiteAccess(t.Context(), w.site)); access.Login == "" || access.Open || access.Slots != 0 {
		t.Errorf("access %+v", access)
	}
	if err := w.store.CheckResponderKey(t.Context(), site.Certificates[0].KeyHash, w.site); err == nil {
		t.Error("its key may be enrolled again")
	}
	for name, try := range map[string]func() error{
		"suspended": func() error { _, err := w.store.SuspendResponder(t.Context(), w.site, act); return err },
		"restored":  func() error { _, err := w.store.RestoreResponder(t.Context(), w.site, act); return err },
		"enrolled": func() error {
			_, err := w.store.AddResponder(t.Context(), w.site, "http://w.example/", nil, act)
			return err
		},
		"let in": func() error {
			_, err := w.store.SetFeedPin(t.Context(), w.site, [32]byte{1}, act)
			return err
		},
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), "left") {
			t.Errorf("%s: %v", name, err)
		}
	}
	survey := must(Surveyor{Timeout: time.Second, Now: time.Now}.Survey(t.Context(), w.store))
	for _, s := range survey {
		if s.Name == w.site && (!s.Well() || len(s.Results) > 0) {
			t.Errorf("fleet status: %+v", s)
		}
	}

	// Whoever cannot be trusted to delete his key is revoked later on.
	if list, err := w.store.RevokeResponder(t.Context(), w.site, db.ReasonCessationOfOperation, act); err != nil || len(list) != 2 || !list[0].Changed {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := w.store.LeaveResponder(t.Context(), w.site, act); err == nil {
		t.Error("a revoked site left")
	}
}

// A site that nobody took out of the DNS keeps its access: clients would go on asking it.
func TestNobodyLeavesWhileTheDNSHasIt(t *testing.T) {
	w := newWithdrawn(t)
	run := w.run(t)
	if err := run.Run(t.Context(), run.Leave(), func(Step) {}); err == nil || !strings.Contains(err.Error(), "--withdrawn") {
		t.Errorf("%v", err)
	}
	if site, _ := w.statuses(t); site.State != db.ResponderActive {
		t.Errorf("it is %s", site.State)
	}
	// Nor does one that is suspended: it may come back, or be revoked.
	if _, err := w.store.SuspendResponder(t.Context(), w.site, act); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.LeaveResponder(t.Context(), w.site, act); err == nil || !strings.Contains(err.Error(), "only an active one leaves") {
		t.Errorf("%v", err)
	}
}

// What an offline CA signed ahead for a site that leaves is never released, and stops
// the release of no other.
func TestUnreleasedCertificatesEndWithTheLeaving(t *testing.T) {
	w := newWithdrawn(t)
	dbtest.Exec(t, w.super, `select serial_pool_add((select min(id) from issuer), array['\x11223344556677889900112233445566'::bytea], '', '')`)
	dbtest.Exec(t, w.super, `select responder_plan((select min(id) from issuer), null, '`+w.site+`',
		(select key_hash from responder_certificate where site = '`+w.site+`' limit 1), date_trunc('second', clock_timestamp()), date_trunc('second', clock_timestamp()) + interval '7 days', '', '')`)
	list, err := w.store.LeaveResponder(t.Context(), w.site, act)
	changed := 0
	for _, c := range list {
		if c.Changed {
			changed++
			if status := must(w.store.Certificate(t.Context(), c.IssuerID, c.Serial)); status.Reason != db.ReasonCessationOfOperation {
				t.Errorf("status %+v", status)
			}
		}
	}
	if err != nil || len(list) != 3 || changed != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}
