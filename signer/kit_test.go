package signer

import (
	"context"
	"crypto"
	"testing"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/signertest"
)

// rig is one site and its responder.
type rig struct {
	*signertest.Site
	*Responder
}

func (r *rig) policy(f func(*db.Policy)) {
	r.TB.Helper()
	r.SetPolicy(f)
	r.refreshed()
}

func (r *rig) refreshed() {
	r.TB.Helper()
	if err := r.Refresh(context.Background()); err != nil {
		r.TB.Fatal(err)
	}
}

func newRig(tb testing.TB, edit ...func(*Config)) *rig {
	tb.Helper()
	return newRigWith(tb, signertest.NewKey(tb), signertest.NewKey(tb), edit...)
}

func newRigWith(tb testing.TB, caKey, key crypto.Signer, edit ...func(*Config)) *rig {
	tb.Helper()
	r := &rig{Site: signertest.NewSite(tb, caKey, key)}
	cfg := Config{Pins: []Pin{{Certificate: r.CA.Cert.Raw}}, Now: r.Time, Logger: r.Logger()}
	for _, f := range edit {
		f(&cfg)
	}
	responder, err := New(cfg, r.Copy, r.Keys)
	if err != nil {
		tb.Fatal(err)
	}
	r.Responder = responder
	r.refreshed()
	return r
}
