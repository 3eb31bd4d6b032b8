package signer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/signertest"
	"ocspfleet/signer/wire"

	"golang.org/x/crypto/ocsp"
)

// x/crypto/ocsp judges: signature, signer, status, times, for each CertID hash
// and for RSA as for ECDSA.
func TestAnswersVerify(t *testing.T) {
	for name, r := range map[string]*rig{
		"p256": newRig(t), "rsa": newRigWith(t, signertest.RSAKey(), signertest.RSAKey()),
	} {
		for _, hash := range certIDHashes {
			for _, c := range []struct {
				serial *big.Int
				class  Class
				status int
				reason int
			}{
				{signertest.GoodSerial, Good, ocsp.Good, 0},
				{signertest.RevokedSerial, Revoked, ocsp.Revoked, ocsp.Superseded},
				{signertest.HoldSerial, Revoked, ocsp.Revoked, ocsp.CertificateHold},
				{signertest.AbsentSerial, Unknown, ocsp.Unknown, 0},
			} {
				request := signertest.Request(t, r.CA, hash, c.serial)
				a := r.Answer(context.Background(), request)
				wantClass(t, a, c.class)
				resp := r.judge(a)
				if resp.Status != c.status || resp.SerialNumber.Cmp(c.serial) != 0 || resp.RevocationReason != c.reason {
					t.Errorf("%s %s: got status %d reason %d for serial %x", name, hash, resp.Status, resp.RevocationReason, resp.SerialNumber)
				}
				if c.status == ocsp.Revoked && !resp.RevokedAt.Equal(signertest.RevokedAt) {
					t.Errorf("%s: revoked at %s", name, resp.RevokedAt)
				}
				if !resp.ThisUpdate.Equal(a.ThisUpdate) || !resp.NextUpdate.Equal(a.NextUpdate) || !resp.ProducedAt.Equal(signertest.Noon) {
					t.Errorf("%s: times %s %s %s", name, resp.ThisUpdate, resp.NextUpdate, resp.ProducedAt)
				}
				if !bytes.Contains(a.Body, signertest.CertID(t, request)) {
					t.Errorf("%s %s: the CertID is not echoed byte for byte", name, hash)
				}
				if resp.Certificate == nil || !a.Shared {
					t.Errorf("%s: certificate %v, shared %v", name, resp.Certificate != nil, a.Shared)
				}
			}
		}
	}
}

func TestRFC6960_4_1_2_ErrorsForBadRequests(t *testing.T) {
	r := newRig(t)
	other := signertest.NewCA(t, 2, "root-two", signertest.NewKey(t))
	sameName := signertest.NewCA(t, 3, "root-one", signertest.NewKey(t))
	sameKey := signertest.NewCA(t, 4, "root-four", r.CA.Key)
	good := r.Request(signertest.GoodSerial)
	short := bytes.Clone(good) // the last octet of the serial is missing
	for name, c := range map[string]struct {
		request []byte
		want    Class
	}{
		"empty":                {nil, Malformed},
		"garbage":              {[]byte("GET / HTTP/1.1"), Malformed},
		"truncated":            {short[:len(short)-1], Malformed},
		"trailing data":        {append(bytes.Clone(good), 0), Malformed},
		"oversize":             {make([]byte, wire.MaxRequestLen+1), Malformed},
		"nonce of 129 octets":  {signertest.Join(t, make([]byte, 129), good), Malformed},
		"unknown issuer":       {signertest.Request(t, other, crypto.SHA1, signertest.GoodSerial), Unauthorized},
		"other key, same name": {signertest.Request(t, sameName, crypto.SHA256, signertest.GoodSerial), Unauthorized},
		"same key, other name": {signertest.Request(t, sameKey, crypto.SHA256, signertest.GoodSerial), Unauthorized},
		"two issuers":          {signertest.Join(t, nil, good, signertest.Request(t, other, crypto.SHA1, signertest.GoodSerial)), Unauthorized},
		"negative serial":      {r.Request(big.NewInt(-5)), Unknown},
		"serial 0":             {r.Request(new(big.Int)), Unknown},
		"serial of 30 octets":  {r.Request(new(big.Int).Lsh(big.NewInt(1), 235)), Unknown},
		"serial of 900 octets": {r.Request(new(big.Int).Lsh(big.NewInt(1), 7190)), Unknown},
	} {
		a := r.Answer(context.Background(), c.request)
		if a.Class != c.want {
			t.Errorf("%s: %s, want %s", name, a.Class, c.want)
		}
		if !a.Class.Signed() && (a.Shared || a.MaxAge != 0) {
			t.Errorf("%s: an unsigned error may be cached", name)
		}
	}
}

// One answer has one signer: two issuers that are both served are too many for it.
func TestCertIDsOfTwoServedIssuers(t *testing.T) {
	r := newRig(t)
	other := signertest.NewCA(t, 2, "root-two", signertest.NewKey(t))
	r.Copy.Edit(func() {
		r.Copy.IssuerRows = append(slices.Clone(r.Copy.IssuerRows), other.Row(signertest.Policy()))
	})
	r.AddCert(other.Delegate(t, 0x8001, r.Key.Public(), signertest.Noon.Add(-day), signertest.Noon.Add(day)))
	r.Copy.Change(signertest.Noon, 2, signertest.Serial(signertest.GoodSerial), r.RevokedRow(signertest.RevokedAt, db.ReasonNone))
	both, err := New(Config{Pins: []Pin{{Certificate: r.CA.Cert.Raw}, {Certificate: other.Cert.Raw}}, Now: r.Time}, r.Copy, r.Keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := both.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	one, two := r.Request(signertest.GoodSerial), signertest.Request(t, other, crypto.SHA1, signertest.GoodSerial)
	wantClass(t, both.Answer(t.Context(), one), Good)
	wantClass(t, both.Answer(t.Context(), two), Revoked) // the same serial, the other's
	wantClass(t, both.Answer(t.Context(), signertest.Join(t, nil, one, two)), Unauthorized)
	wantClass(t, both.Answer(t.Context(), signertest.Join(t, nil, two, one)), Unauthorized)
}

// RFC 6960 section 4.2.2.3: one SingleResponse for each CertID, in order, hashes
// mixed, the same one twice included.
func TestSeveralCertIDs(t *testing.T) {
	r := newRig(t)
	again := signertest.Request(t, r.CA, crypto.SHA256, signertest.GoodSerial)
	request := signertest.Join(t, nil, r.Request(signertest.GoodSerial), signertest.Request(t, r.CA, crypto.SHA384, signertest.RevokedSerial), r.Request(signertest.AbsentSerial), again, again)
	a := r.Answer(context.Background(), request)
	wantClass(t, a, Revoked)
	for serial, want := range map[*big.Int]int{signertest.GoodSerial: ocsp.Good, signertest.RevokedSerial: ocsp.Revoked, signertest.AbsentSerial: ocsp.Unknown} {
		resp, err := ocsp.ParseResponseForCert(a.Body, &x509.Certificate{SerialNumber: serial}, r.CA.Cert)
		if err != nil || resp.Status != want {
			t.Errorf("serial %x: status %v, %v", serial, resp, err)
		}
	}
	if n := bytes.Count(a.Body, signertest.CertID(t, again)); n != 2 {
		t.Errorf("the CertID asked twice is answered %d times", n)
	}
	if !a.NextUpdate.Equal(signertest.Noon.Add(15*time.Minute)) || a.MaxAge != time.Minute {
		t.Errorf("nextUpdate %s, max-age %s: want those of the shortest", a.NextUpdate, a.MaxAge)
	}
	if entries, _ := r.cache.stats(); entries != 0 {
		t.Error("an answer for several CertIDs was cached")
	}
	// One error is the whole answer.
	r.policy(func(p *db.Policy) { p.NeverIssued = db.NeverIssuedUnauthorized })
	wantClass(t, r.Answer(context.Background(), request), Unauthorized)
}

func TestRFC9654_2_1_NonceIsEchoedAndNeverCached(t *testing.T) {
	r := newRig(t)
	for _, n := range []int{1, 16, 32, 33, 128} {
		nonce := make([]byte, n)
		_, _ = rand.Read(nonce)
		request := signertest.Join(t, nonce, r.Request(signertest.GoodSerial))
		before := r.Keys.Signs.Load()
		one, two := r.Answer(context.Background(), request), r.Answer(context.Background(), request)
		wantClass(t, one, Good)
		r.judge(one)
		if r.Keys.Signs.Load() != before+2 || one.Shared || two.Shared || !bytes.Contains(one.Body, nonce) {
			t.Errorf("nonce of %d octets: %d signatures, shared %v", n, r.Keys.Signs.Load()-before, one.Shared)
		}
	}
	// BR: longer than 32 octets is answered without, so it may be cached.
	r.policy(func(p *db.Policy) { p.Profile = db.ProfileBR })
	for n, echo := range map[int]bool{32: true, 33: false, 128: false} {
		nonce := make([]byte, n)
		_, _ = rand.Read(nonce)
		a := r.Answer(context.Background(), signertest.Join(t, nonce, r.Request(signertest.GoodSerial)))
		wantClass(t, a, Good)
		if bytes.Contains(a.Body, nonce) != echo || a.Shared == echo {
			t.Errorf("br, nonce of %d octets: echoed %v", n, !echo)
		}
	}
}

func TestExtendedRevokeIsMarked(t *testing.T) {
	r := newRig(t)
	r.policy(func(p *db.Policy) { p.NeverIssued = db.NeverIssuedRevoked })
	mark := []byte{0x2b, 6, 1, 5, 5, 7, 0x30, 1, 9, 4, 2, 5, 0}
	a := r.ask(signertest.AbsentSerial)
	wantClass(t, a, Revoked)
	resp := r.judge(a)
	if !bytes.Contains(a.Body, mark) || resp.RevocationReason != ocsp.CertificateHold || resp.RevokedAt.Unix() != 0 {
		t.Errorf("extension %v, reason %d, time %s", bytes.Contains(a.Body, mark), resp.RevocationReason, resp.RevokedAt)
	}
	if bytes.Contains(r.ask(signertest.RevokedSerial).Body, mark) {
		t.Error("a certificate that was issued is marked as never issued")
	}
	r.policy(func(p *db.Policy) { p.Profile = db.ProfileBR })
	wantClass(t, r.ask(signertest.AbsentSerial), Unauthorized)
	wantClass(t, r.ask(signertest.HoldSerial), Unauthorized)
}

// A revocation changes the content key: the next answer says revoked, with no
// message to the cache; a release and a correction work the same way.
func TestRevocationIsSeenAtOnce(t *testing.T) {
	r := newRig(t)
	good := r.ask(signertest.GoodSerial)
	wantClass(t, good, Good)
	r.Copy.Change(signertest.Noon, 1, signertest.Serial(signertest.GoodSerial), r.RevokedRow(signertest.Noon, db.ReasonCertificateHold))
	wantClass(t, r.ask(signertest.GoodSerial), Revoked)
	r.Copy.Change(signertest.Noon, 1, signertest.Serial(signertest.GoodSerial), r.Issued())
	released := r.ask(signertest.GoodSerial)
	wantClass(t, released, Good)
	if bytes.Equal(good.Body, released.Body) {
		t.Error("the answer from before the hold came back")
	}
	r.Copy.Change(signertest.Noon, 1, signertest.Serial(signertest.GoodSerial), r.RevokedRow(signertest.Noon, db.ReasonKeyCompromise))
	if resp := r.judge(r.ask(signertest.GoodSerial)); resp.Status != ocsp.Revoked || resp.RevocationReason != ocsp.KeyCompromise {
		t.Errorf("status %d, reason %d", resp.Status, resp.RevocationReason)
	}
	r.Copy.Change(signertest.Noon, 1, signertest.Serial(signertest.AbsentSerial), r.Issued())
	wantClass(t, r.ask(signertest.AbsentSerial), Good)
}

func TestCopyCannotBeAsked(t *testing.T) {
	r := newRig(t)
	r.Copy.Edit(func() { r.Copy.Fault = errors.New("the copy is being loaded") })
	wantClass(t, r.ask(signertest.GoodSerial), TryLater)
	wantClass(t, r.ask(signertest.GoodSerial), TryLater)
	if n := strings.Count(r.Logs.String(), "the copy is being loaded"); n != 1 {
		t.Errorf("logged %d times, want once per minute", n)
	}
	r.Copy.Edit(func() { r.Copy.Fault = nil })
	wantClass(t, r.ask(signertest.GoodSerial), Good)
}

// Doubt: good and unknown end at once, though cached; what is revoked goes on;
// the cache is emptied.
func TestDivergenceStopsGoodNotRevoked(t *testing.T) {
	r := newRig(t)
	for _, serial := range []*big.Int{signertest.GoodSerial, signertest.RevokedSerial, signertest.HoldSerial, signertest.AbsentSerial} {
		r.ask(serial)
	}
	r.Copy.Edit(func() { r.Copy.At.Doubt = "digest differs from the head" })
	wantClass(t, r.ask(signertest.GoodSerial), TryLater)
	wantClass(t, r.ask(signertest.AbsentSerial), TryLater)
	if entries, _ := r.cache.stats(); entries != 0 {
		t.Errorf("%d signatures kept", entries)
	}
	wantClass(t, r.ask(signertest.RevokedSerial), Revoked)
	wantClass(t, r.ask(signertest.HoldSerial), Revoked)
	if reasons := r.Ready(context.Background()); len(reasons) != 1 || !strings.Contains(reasons[0], "digest differs") {
		t.Errorf("ready says %q", reasons)
	}
	r.Copy.Edit(func() { r.Copy.At.Doubt = "" })
	wantClass(t, r.ask(signertest.GoodSerial), Good)
}

// A token that fails costs a tryLater, never a hang or a panic;
// what was signed before goes on while it has half of its time left.
func TestTokenFails(t *testing.T) {
	r := newRig(t)
	cached := r.ask(signertest.GoodSerial)
	r.Keys.Set(func() { r.Keys.Fault = errors.New("signing: CKR_DEVICE_ERROR") })
	r.SetTime(signertest.Noon.Add(2 * time.Hour))
	r.Copy.Heartbeat(r.Time())
	if a := r.ask(signertest.GoodSerial); a.Class != Good || !bytes.Equal(a.Body, cached.Body) {
		t.Errorf("the cached signature is not used: %s", a.Class)
	}
	wantClass(t, r.ask(signertest.RevokedSerial), TryLater)
	wantClass(t, r.Answer(context.Background(), signertest.Join(t, []byte("nonce"), r.Request(signertest.GoodSerial))), TryLater)
	r.SetTime(signertest.Noon.Add(40 * time.Hour))
	r.Copy.Heartbeat(r.Time())
	wantClass(t, r.ask(signertest.GoodSerial), TryLater)
	r.Keys.Set(func() { r.Keys.Fault = nil })
	wantClass(t, r.ask(signertest.GoodSerial), Good)

	r.Keys.Set(func() { r.Keys.Panic = true })
	wantClass(t, r.ask(signertest.RevokedSerial), InternalError)
	r.Keys.Set(func() { r.Keys.Panic = false })
	wantClass(t, r.ask(signertest.RevokedSerial), Revoked)
}

func TestTokenHangs(t *testing.T) {
	r := newRig(t, func(c *Config) { c.SignTimeout, c.MaxSigning = 30*time.Millisecond, 2 })
	release := make(chan struct{})
	r.Keys.Set(func() { r.Keys.Block = release })
	nonce := signertest.Join(t, []byte("nonce"), r.Request(signertest.GoodSerial))
	wantClass(t, r.Answer(context.Background(), nonce), TryLater)
	wantClass(t, r.ask(signertest.GoodSerial), TryLater)
	// Two are under way: the third is not even begun.
	began := r.Keys.Signs.Load()
	wantClass(t, r.Answer(context.Background(), nonce), TryLater)
	if r.Keys.Signs.Load() != began {
		t.Error("more signatures under way than allowed")
	}
	close(release)
	deadline := time.Now().Add(10 * time.Second)
	for r.ask(signertest.GoodSerial).Class != Good {
		if time.Now().After(deadline) {
			t.Fatal("the token woke, the responder did not")
		}
	}
}

// A crowd that asks for one thing gets one signature.
func TestOneSignatureForOneContent(t *testing.T) {
	r := newRig(t)
	release := make(chan struct{})
	r.Keys.Set(func() { r.Keys.Block = release })
	before := r.Keys.Signs.Load()
	request := r.Request(signertest.GoodSerial)
	bodies := make([][]byte, 50)
	var wg sync.WaitGroup
	for i := range bodies {
		wg.Go(func() { bodies[i] = r.Answer(context.Background(), request).Body })
	}
	for r.Copy.Lookups.Load() < 50 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	for _, b := range bodies {
		if !bytes.Equal(b, bodies[0]) || len(b) < 100 {
			t.Fatal("the crowd got different answers")
		}
	}
	if n := r.Keys.Signs.Load() - before; n != 1 {
		t.Errorf("%d signatures", n)
	}
}

// A client that goes away gets nothing, and spoils nothing.
func TestHangUpDoesNotSpoilTheSignature(t *testing.T) {
	r := newRig(t)
	release := make(chan struct{})
	r.Keys.Set(func() { r.Keys.Block = release })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	wantClass(t, r.Answer(ctx, r.Request(signertest.GoodSerial)), TryLater)
	close(release)
	wantClass(t, r.ask(signertest.GoodSerial), Good)
}

// A panic of our own is internalError, and the next request is another one.
func TestPanicIsInternalError(t *testing.T) {
	r := newRig(t)
	lookup := r.Copy
	r.Responder.source = panicSource{lookup}
	wantClass(t, r.ask(signertest.GoodSerial), InternalError)
	r.Responder.source = lookup
	wantClass(t, r.ask(signertest.GoodSerial), Good)
}

type panicSource struct{ *signertest.Copy }

func (panicSource) Lookup(context.Context, db.IssuerID, db.Serial) (db.Status, db.Horizon, error) {
	panic("index out of range")
}

func TestNewRefusesBadPins(t *testing.T) {
	ca := signertest.NewCA(t, 1, "root-one", signertest.NewKey(t))
	pin := Pin{Certificate: ca.Cert.Raw}
	for name, pins := range map[string][]Pin{"none": nil, "garbage": {{Certificate: []byte("x")}}, "twice": {pin, pin}} {
		if _, err := New(Config{Pins: pins}, &signertest.Copy{}, &signertest.Keyring{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
