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
	"ocspfleet/signer/wire"

	"golang.org/x/crypto/ocsp"
)

// x/crypto/ocsp judges: signature, signer, status, times, for each CertID hash
// and for RSA as for ECDSA.
func TestAnswersVerify(t *testing.T) {
	for name, r := range map[string]*rig{
		"p256": newRig(t), "rsa": newRigWith(t, rsaKey(), rsaKey()),
	} {
		for _, hash := range certIDHashes {
			for _, c := range []struct {
				serial *big.Int
				class  Class
				status int
				reason int
			}{
				{goodSerial, Good, ocsp.Good, 0},
				{revokedSerial, Revoked, ocsp.Revoked, ocsp.Superseded},
				{holdSerial, Revoked, ocsp.Revoked, ocsp.CertificateHold},
				{absentSerial, Unknown, ocsp.Unknown, 0},
			} {
				request := requestFor(t, r.ca, hash, c.serial)
				a := r.Answer(context.Background(), request)
				wantClass(t, a, c.class)
				resp := r.judge(a)
				if resp.Status != c.status || resp.SerialNumber.Cmp(c.serial) != 0 || resp.RevocationReason != c.reason {
					t.Errorf("%s %s: got status %d reason %d for serial %x", name, hash, resp.Status, resp.RevocationReason, resp.SerialNumber)
				}
				if c.status == ocsp.Revoked && !resp.RevokedAt.Equal(revokedAt) {
					t.Errorf("%s: revoked at %s", name, resp.RevokedAt)
				}
				if !resp.ThisUpdate.Equal(a.ThisUpdate) || !resp.NextUpdate.Equal(a.NextUpdate) || !resp.ProducedAt.Equal(noon) {
					t.Errorf("%s: times %s %s %s", name, resp.ThisUpdate, resp.NextUpdate, resp.ProducedAt)
				}
				if !bytes.Contains(a.Body, certIDOf(t, request)) {
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
	other := newCA(t, 2, "root-two", newKey(t))
	sameName := newCA(t, 3, "root-one", newKey(t))
	sameKey := newCA(t, 4, "root-four", r.ca.key)
	good := r.request(goodSerial)
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
		"nonce of 129 octets":  {join(t, make([]byte, 129), good), Malformed},
		"unknown issuer":       {requestFor(t, other, crypto.SHA1, goodSerial), Unauthorized},
		"other key, same name": {requestFor(t, sameName, crypto.SHA256, goodSerial), Unauthorized},
		"same key, other name": {requestFor(t, sameKey, crypto.SHA256, goodSerial), Unauthorized},
		"two issuers":          {join(t, nil, good, requestFor(t, other, crypto.SHA1, goodSerial)), Unauthorized},
		"negative serial":      {r.request(big.NewInt(-5)), Unknown},
		"serial 0":             {r.request(new(big.Int)), Unknown},
		"serial of 30 octets":  {r.request(new(big.Int).Lsh(big.NewInt(1), 235)), Unknown},
		"serial of 900 octets": {r.request(new(big.Int).Lsh(big.NewInt(1), 7190)), Unknown},
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
	other := newCA(t, 2, "root-two", newKey(t))
	r.source.edit(func() { r.source.issuers = append(slices.Clone(r.source.issuers), other.row(testPolicy())) })
	r.addCert(other.delegate(t, 0x8001, r.key.Public(), noon.Add(-day), noon.Add(day)))
	r.source.change(noon, 2, serialOf(goodSerial), r.revokedRow(revokedAt, db.ReasonNone))
	both, err := New(Config{Pins: []Pin{{Certificate: r.ca.cert.Raw}, {Certificate: other.cert.Raw}}, Now: r.time}, r.source, r.keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := both.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	one, two := r.request(goodSerial), requestFor(t, other, crypto.SHA1, goodSerial)
	wantClass(t, both.Answer(t.Context(), one), Good)
	wantClass(t, both.Answer(t.Context(), two), Revoked) // the same serial, the other's
	wantClass(t, both.Answer(t.Context(), join(t, nil, one, two)), Unauthorized)
	wantClass(t, both.Answer(t.Context(), join(t, nil, two, one)), Unauthorized)
}

// RFC 6960 section 4.2.2.3: one SingleResponse for each CertID, in order, hashes
// mixed, the same one twice included.
func TestSeveralCertIDs(t *testing.T) {
	r := newRig(t)
	again := requestFor(t, r.ca, crypto.SHA256, goodSerial)
	request := join(t, nil, r.request(goodSerial), requestFor(t, r.ca, crypto.SHA384, revokedSerial), r.request(absentSerial), again, again)
	a := r.Answer(context.Background(), request)
	wantClass(t, a, Revoked)
	for serial, want := range map[*big.Int]int{goodSerial: ocsp.Good, revokedSerial: ocsp.Revoked, absentSerial: ocsp.Unknown} {
		resp, err := ocsp.ParseResponseForCert(a.Body, &x509.Certificate{SerialNumber: serial}, r.ca.cert)
		if err != nil || resp.Status != want {
			t.Errorf("serial %x: status %v, %v", serial, resp, err)
		}
	}
	if n := bytes.Count(a.Body, certIDOf(t, again)); n != 2 {
		t.Errorf("the CertID asked twice is answered %d times", n)
	}
	if !a.NextUpdate.Equal(noon.Add(15*time.Minute)) || a.MaxAge != time.Minute {
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
		request := join(t, nonce, r.request(goodSerial))
		before := r.keys.signs.Load()
		one, two := r.Answer(context.Background(), request), r.Answer(context.Background(), request)
		wantClass(t, one, Good)
		r.judge(one)
		if r.keys.signs.Load() != before+2 || one.Shared || two.Shared || !bytes.Contains(one.Body, nonce) {
			t.Errorf("nonce of %d octets: %d signatures, shared %v", n, r.keys.signs.Load()-before, one.Shared)
		}
	}
	// BR: longer than 32 octets is answered without, so it may be cached.
	r.policy(func(p *db.Policy) { p.Profile = db.ProfileBR })
	for n, echo := range map[int]bool{32: true, 33: false, 128: false} {
		nonce := make([]byte, n)
		_, _ = rand.Read(nonce)
		a := r.Answer(context.Background(), join(t, nonce, r.request(goodSerial)))
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
	a := r.ask(absentSerial)
	wantClass(t, a, Revoked)
	resp := r.judge(a)
	if !bytes.Contains(a.Body, mark) || resp.RevocationReason != ocsp.CertificateHold || resp.RevokedAt.Unix() != 0 {
		t.Errorf("extension %v, reason %d, time %s", bytes.Contains(a.Body, mark), resp.RevocationReason, resp.RevokedAt)
	}
	if bytes.Contains(r.ask(revokedSerial).Body, mark) {
		t.Error("a certificate that was issued is marked as never issued")
	}
	r.policy(func(p *db.Policy) { p.Profile = db.ProfileBR })
	wantClass(t, r.ask(absentSerial), Unauthorized)
	wantClass(t, r.ask(holdSerial), Unauthorized)
}

// A revocation changes the content key: the next answer says revoked, with no
// message to the cache; a release and a correction work the same way.
func TestRevocationIsSeenAtOnce(t *testing.T) {
	r := newRig(t)
	good := r.ask(goodSerial)
	wantClass(t, good, Good)
	r.source.change(noon, 1, serialOf(goodSerial), r.revokedRow(noon, db.ReasonCertificateHold))
	wantClass(t, r.ask(goodSerial), Revoked)
	r.source.change(noon, 1, serialOf(goodSerial), r.issued())
	released := r.ask(goodSerial)
	wantClass(t, released, Good)
	if bytes.Equal(good.Body, released.Body) {
		t.Error("the answer from before the hold came back")
	}
	r.source.change(noon, 1, serialOf(goodSerial), r.revokedRow(noon, db.ReasonKeyCompromise))
	if resp := r.judge(r.ask(goodSerial)); resp.Status != ocsp.Revoked || resp.RevocationReason != ocsp.KeyCompromise {
		t.Errorf("status %d, reason %d", resp.Status, resp.RevocationReason)
	}
	r.source.change(noon, 1, serialOf(absentSerial), r.issued())
	wantClass(t, r.ask(absentSerial), Good)
}

func TestCopyCannotBeAsked(t *testing.T) {
	r := newRig(t)
	r.source.edit(func() { r.source.fault = errors.New("the copy is being loaded") })
	wantClass(t, r.ask(goodSerial), TryLater)
	wantClass(t, r.ask(goodSerial), TryLater)
	if n := strings.Count(r.logs.String(), "the copy is being loaded"); n != 1 {
		t.Errorf("logged %d times, want once per minute", n)
	}
	r.source.edit(func() { r.source.fault = nil })
	wantClass(t, r.ask(goodSerial), Good)
}

// Doubt: good and unknown end at once, though cached; what is revoked goes on;
// the cache is emptied.
func TestDivergenceStopsGoodNotRevoked(t *testing.T) {
	r := newRig(t)
	for _, serial := range []*big.Int{goodSerial, revokedSerial, holdSerial, absentSerial} {
		r.ask(serial)
	}
	r.source.edit(func() { r.source.horizon.Doubt = "digest differs from the head" })
	wantClass(t, r.ask(goodSerial), TryLater)
	wantClass(t, r.ask(absentSerial), TryLater)
	if entries, _ := r.cache.stats(); entries != 0 {
		t.Errorf("%d signatures kept", entries)
	}
	wantClass(t, r.ask(revokedSerial), Revoked)
	wantClass(t, r.ask(holdSerial), Revoked)
	if reasons := r.Ready(context.Background()); len(reasons) != 1 || !strings.Contains(reasons[0], "digest differs") {
		t.Errorf("ready says %q", reasons)
	}
	r.source.edit(func() { r.source.horizon.Doubt = "" })
	wantClass(t, r.ask(goodSerial), Good)
}

// A token that fails costs a tryLater, never a hang or a panic;
// what was signed before goes on while it has half of its time left.
func TestTokenFails(t *testing.T) {
	r := newRig(t)
	cached := r.ask(goodSerial)
	r.keys.set(func() { r.keys.fault = errors.New("signing: CKR_DEVICE_ERROR") })
	r.setTime(noon.Add(2 * time.Hour))
	r.source.heartbeat(r.time())
	if a := r.ask(goodSerial); a.Class != Good || !bytes.Equal(a.Body, cached.Body) {
		t.Errorf("the cached signature is not used: %s", a.Class)
	}
	wantClass(t, r.ask(revokedSerial), TryLater)
	wantClass(t, r.Answer(context.Background(), join(t, []byte("nonce"), r.request(goodSerial))), TryLater)
	r.setTime(noon.Add(40 * time.Hour))
	r.source.heartbeat(r.time())
	wantClass(t, r.ask(goodSerial), TryLater)
	r.keys.set(func() { r.keys.fault = nil })
	wantClass(t, r.ask(goodSerial), Good)

	r.keys.set(func() { r.keys.panic = true })
	wantClass(t, r.ask(revokedSerial), InternalError)
	r.keys.set(func() { r.keys.panic = false })
	wantClass(t, r.ask(revokedSerial), Revoked)
}

func TestTokenHangs(t *testing.T) {
	r := newRig(t, func(c *Config) { c.SignTimeout, c.MaxSigning = 30*time.Millisecond, 2 })
	release := make(chan struct{})
	r.keys.set(func() { r.keys.block = release })
	nonce := join(t, []byte("nonce"), r.request(goodSerial))
	wantClass(t, r.Answer(context.Background(), nonce), TryLater)
	wantClass(t, r.ask(goodSerial), TryLater)
	// Two are under way: the third is not even begun.
	began := r.keys.signs.Load()
	wantClass(t, r.Answer(context.Background(), nonce), TryLater)
	if r.keys.signs.Load() != began {
		t.Error("more signatures under way than allowed")
	}
	close(release)
	deadline := time.Now().Add(10 * time.Second)
	for r.ask(goodSerial).Class != Good {
		if time.Now().After(deadline) {
			t.Fatal("the token woke, the responder did not")
		}
	}
}

// A crowd that asks for one thing gets one signature.
func TestOneSignatureForOneContent(t *testing.T) {
	r := newRig(t)
	release := make(chan struct{})
	r.keys.set(func() { r.keys.block = release })
	before := r.keys.signs.Load()
	request := r.request(goodSerial)
	bodies := make([][]byte, 50)
	var wg sync.WaitGroup
	for i := range bodies {
		wg.Go(func() { bodies[i] = r.Answer(context.Background(), request).Body })
	}
	for r.source.lookups.Load() < 50 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	for _, b := range bodies {
		if !bytes.Equal(b, bodies[0]) || len(b) < 100 {
			t.Fatal("the crowd got different answers")
		}
	}
	if n := r.keys.signs.Load() - before; n != 1 {
		t.Errorf("%d signatures", n)
	}
}

// A client that goes away gets nothing, and spoils nothing.
func TestHangUpDoesNotSpoilTheSignature(t *testing.T) {
	r := newRig(t)
	release := make(chan struct{})
	r.keys.set(func() { r.keys.block = release })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	wantClass(t, r.Answer(ctx, r.request(goodSerial)), TryLater)
	close(release)
	wantClass(t, r.ask(goodSerial), Good)
}

// A panic of our own is internalError, and the next request is another one.
func TestPanicIsInternalError(t *testing.T) {
	r := newRig(t)
	lookup := r.source
	r.Responder.source = panicSource{lookup}
	wantClass(t, r.ask(goodSerial), InternalError)
	r.Responder.source = lookup
	wantClass(t, r.ask(goodSerial), Good)
}

type panicSource struct{ *copySource }

func (panicSource) Lookup(context.Context, db.IssuerID, db.Serial) (db.Status, db.Horizon, error) {
	panic("index out of range")
}

func TestNewRefusesBadPins(t *testing.T) {
	ca := newCA(t, 1, "root-one", newKey(t))
	pin := Pin{Certificate: ca.cert.Raw}
	for name, pins := range map[string][]Pin{"none": nil, "garbage": {{Certificate: []byte("x")}}, "twice": {pin, pin}} {
		if _, err := New(Config{Pins: pins}, &copySource{}, &softKeys{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
