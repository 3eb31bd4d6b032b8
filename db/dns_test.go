package db_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// What was withdrawn is kept until just that is published; each stage is in the
// audit; an operator may note it, the CA's software may not.
func TestWhatLeftTheDNSIsKept(t *testing.T) {
	dsn, super := newMaster(t)
	for login, role := range map[string]db.Role{"dns_olga": db.RoleOperator, "dns_ca": db.RoleCA} {
		if err := super.CreateLogin(t.Context(), login, role, "a-password-of-tests", act); err != nil {
			t.Fatal(err)
		}
	}
	store := open(t, loginDSN(t, dsn, "dns_olga", "a-password-of-tests"))
	// Addresses of nil are those that the site has.
	for _, addresses := range [][]string{{"192.0.2.1", "2001:db8::1"}, nil} {
		if _, err := store.AddResponder(t.Context(), "site-a", "http://a.example/", addresses, act); err != nil {
			t.Fatal(err)
		}
	}
	roster, err := store.Responders(t.Context())
	if err != nil || len(roster) != 1 || fmt.Sprint(roster[0].Addresses) != "[192.0.2.1 2001:db8::1]" {
		t.Errorf("%+v, %v", roster, err)
	}
	note := func(publish bool, name string, stage masterdb.DNSStage, addresses ...string) error {
		n := masterdb.DNSNote{Site: "site-a", Publish: publish, Name: name, TTL: time.Hour, Stage: stage, Detail: "x"}
		for _, a := range addresses {
			n.Addresses = append(n.Addresses, netip.MustParseAddr(a))
		}
		return store.NoteDNS(t.Context(), n, act)
	}
	for i, step := range []struct {
		publish bool
		name    string
		stage   masterdb.DNSStage
		at      []string
		want    string
		held    bool // all of them, for the TTL
	}{
		{false, "one.", masterdb.DNSBegin, []string{"192.0.2.1", "2001:db8::1"}, "[{one. 192.0.2.1} {one. 2001:db8::1}]", false},
		{false, "one.", masterdb.DNSFailed, []string{"192.0.2.1"}, "[{one. 192.0.2.1} {one. 2001:db8::1}]", false},
		{false, "one.", masterdb.DNSBegin, []string{"192.0.2.1"}, "[{one. 192.0.2.1} {one. 2001:db8::1}]", false}, // again
		{false, "two.", masterdb.DNSBegin, []string{"192.0.2.1"}, "[{one. 192.0.2.1} {one. 2001:db8::1} {two. 192.0.2.1}]", false},
		{true, "one.", masterdb.DNSBegin, []string{"192.0.2.1"}, "[{one. 192.0.2.1} {one. 2001:db8::1} {two. 192.0.2.1}]", false},
		{true, "one.", masterdb.DNSDone, []string{"192.0.2.1"}, "[{one. 2001:db8::1} {two. 192.0.2.1}]", false},
		{false, "", masterdb.DNSSpread, nil, "[{one. 2001:db8::1} {two. 192.0.2.1}]", true},
	} {
		if err := note(step.publish, step.name, step.stage, step.at...); err != nil {
			t.Fatal(err)
		}
		left, err := store.Withdrawn(t.Context(), "site-a")
		var texts []string
		for _, a := range left {
			texts = append(texts, fmt.Sprintf("{%s %s}", a.Name, a.Address))
			if held := a.Held != nil && time.Until(*a.Held) > 50*time.Minute; held != step.held {
				t.Errorf("step %d: %s is held until %v", i, a.Address, a.Held)
			}
		}
		if err != nil || fmt.Sprint(texts) != step.want {
			t.Errorf("step %d: %v, want %s (%v)", i, texts, step.want, err)
		}
	}
	if err := note(true, "one.", "perhaps"); err == nil || !strings.Contains(err.Error(), "at stage perhaps") {
		t.Errorf("a stage that there is not: %v", err)
	}
	last := lastActs(t, dsn, 1)
	if !strings.Contains(last, "responder dns") {
		t.Errorf("the audit ends with %s", last)
	}
	ca := open(t, loginDSN(t, dsn, "dns_ca", "a-password-of-tests"))
	if err := ca.NoteDNS(t.Context(), masterdb.DNSNote{Site: "site-a", Name: "one.", Stage: masterdb.DNSBegin}, act); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("the CA's software: %v", err)
	}
}
