package ocsphttp

import (
	"testing"

	"ocspfleet/integration/testkit/signertest"
	"ocspfleet/signer"
)

// rig is one site and its responder.
type rig struct {
	*signertest.Site
	*signer.Responder
}

func newRig(tb testing.TB) *rig {
	tb.Helper()
	site := signertest.NewSite(tb, signertest.NewKey(tb), signertest.NewKey(tb))
	responder, err := signer.New(signer.Config{
		Pins: []signer.Pin{{Certificate: site.CA.Cert.Raw}}, Now: site.Time, Logger: site.Logger(),
	}, site.Copy, site.Keys)
	if err != nil {
		tb.Fatal(err)
	}
	r := &rig{Site: site, Responder: responder}
	r.refreshed()
	return r
}

func (r *rig) refreshed() {
	r.TB.Helper()
	if err := r.Refresh(r.TB.Context()); err != nil {
		r.TB.Fatal(err)
	}
}
