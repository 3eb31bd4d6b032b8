package signer

import (
	"bytes"
	"encoding/asn1"
	"math/big"
	"testing"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/signertest"
)

// ETSI EN 319 411-2 wants to know since when status is kept beyond the ends of
// certificates: since the CA's notBefore, said of certificates that the copy has.
func TestRFC6960_4_4_4_ArchiveCutoff(t *testing.T) {
	r := newRig(t)
	wantClass(t, r.ask(signertest.GoodSerial), Good) // is cached without
	r.policy(func(p *db.Policy) { p.ArchiveCutoff = true })
	value, err := asn1.MarshalWithParams(r.CA.Cert.NotBefore, "generalized")
	if err != nil {
		t.Fatal(err)
	}
	for serial, want := range map[*big.Int]int{signertest.GoodSerial: 1, signertest.RevokedSerial: 1, signertest.HoldSerial: 1, signertest.AbsentSerial: 0} {
		got := r.judge(r.ask(serial)).Extensions
		if len(got) != want {
			t.Errorf("serial %x: extensions %v", serial, got)
		}
		for _, ext := range got {
			if ext.Id.String() != "1.3.6.1.5.5.7.48.1.6" || ext.Critical || !bytes.Equal(ext.Value, value) {
				t.Errorf("serial %x: %+v, want the time %x", serial, ext, value)
			}
		}
	}
	r.policy(func(p *db.Policy) { p.ArchiveCutoff, p.NeverIssued = true, db.NeverIssuedRevoked })
	if got := r.judge(r.ask(signertest.AbsentSerial)).Extensions; len(got) != 0 {
		t.Errorf("never issued and revoked: extensions %v", got)
	}
}
