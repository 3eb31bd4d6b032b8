package db_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
)

// BR 4.9.10: a policy of profile br with which an answer could break the rules is
// refused by the table itself, whoever writes it.
func TestBR_4_9_10_PolicyThatBreaksTheRulesIsRefused(t *testing.T) {
	dsn, _ := newMaster(t)
	conn := dbtest.Connect(t, dsn)
	for _, c := range []struct {
		name, set string
		refused   bool
	}{
		{"as by default", `validity = 259200, backdate = 300, max_staleness = 129600`, false},
		{"8 h", `validity = 28800, backdate = 300, max_staleness = 14100, http_max_age = 3600`, false},
		{"below 8 h", `validity = 28799, backdate = 300, max_staleness = 14000, http_max_age = 3600`, true},
		{"10 d, both ends counted", `validity = 863999, backdate = 300, max_staleness = 345300`, false},
		{"a second over 10 d", `validity = 864000, backdate = 300, max_staleness = 129600`, true},
		{"below 16 h, over half of it", `validity = 57599, backdate = 300, max_staleness = 28500, http_max_age = 3600`, true},
		{"16 h, to 8 h before the end", `validity = 57600, backdate = 300, max_staleness = 28500, http_max_age = 3600`, false},
		{"to 7 h 59 min before the end", `validity = 57600, backdate = 360, max_staleness = 28500, http_max_age = 3600`, true},
		{"over 4 d after the begin", `validity = 863999, backdate = 301, max_staleness = 345300`, true},
		{"never issued is revoked", `validity = 259200, backdate = 300, max_staleness = 129600, never_issued = 'revoked'`, true},
	} {
		_, err := conn.Exec(t.Context(), `update issuer set policy_version = policy_version + 1, profile = 'br', fresh_for_unknown = 900, `+c.set)
		switch {
		case c.refused && (err == nil || sqlState(err) != "23514"):
			t.Errorf("%s: want it refused, got %v", c.name, err)
		case !c.refused && err != nil:
			t.Errorf("%s: %v", c.name, err)
		}
	}
	assertConsistent(t, dsn)
}

// A policy is set as it was planned, or not at all.
func TestIssuerIsSetAsPlanned(t *testing.T) {
	dsn, store := newMaster(t)
	ctx := t.Context()
	issuers, err := store.Issuers(ctx)
	if err != nil {
		t.Fatal(err)
	}
	planned := issuers[0]
	if changed, err := store.SetIssuer(ctx, planned, act); err != nil || changed {
		t.Errorf("as it was: %t, %v", changed, err)
	}
	planned.Policy.Validity, planned.Certificate = 48*time.Hour, []byte{0x30, 0x01, 0x07}
	if changed, err := store.SetIssuer(ctx, planned, act); err != nil || !changed {
		t.Errorf("planned: %t, %v", changed, err)
	}
	planned.Policy.Validity = 24 * time.Hour
	if _, err := store.SetIssuer(ctx, planned, act); err == nil || !strings.Contains(err.Error(), "was changed meanwhile") {
		t.Errorf("a plan of an older policy: %v", err)
	}
	want := planned
	want.Policy.Validity, want.Policy.Version = 48*time.Hour, 2
	if issuers, err = store.Issuers(ctx); err != nil || issuers[0].Policy != want.Policy || !bytes.Equal(issuers[0].Certificate, want.Certificate) {
		t.Errorf("issuer %+v, want %+v, %v", issuers[0], want, err)
	}
	mustIssue(t, store, "01")
	if _, _, err := store.Hold(ctx, 1, db.Serial{1}, act); err != nil {
		t.Fatal(err)
	}
	br := issuers[0]
	br.Policy.Profile, br.Policy.Validity, br.Policy.MaxStaleness = db.ProfileBR, 72*time.Hour, 36*time.Hour
	for why, set := range map[string]func(*db.Issuer){
		"on hold":            func(i *db.Issuer) { *i = br },
		"there is no issuer": func(i *db.Issuer) { i.ID = 7 },
		"is 1h to 240h":      func(i *db.Issuer) { i.Policy.Validity = 11 * 24 * time.Hour },
	} {
		next := issuers[0]
		set(&next)
		if _, err := store.SetIssuer(ctx, next, act); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
	}
	assertConsistent(t, dsn)
}
