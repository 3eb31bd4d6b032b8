package wire_test

import (
	"bytes"
	"crypto"
	"errors"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"ocspfleet/signer/wire"
)

// FuzzParseRequest holds the parser against the promises of checkParsed, and
// against x/crypto/ocsp both ways:
//
// What we accept, each CertID asked alone in the plain form, it reads alike
// (checkParsed). What it accepts and would write itself, octet for octet, we
// accept. Elsewhere the two differ on purpose: x/crypto/ocsp reads the first
// CertID only, skips what follows the fields that it knows in a SEQUENCE, takes
// any version and refuses unknown hashes, signatures and requestorNames that
// are no directoryName.
func FuzzParseRequest(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add(v.der)
	}
	for hash := range hashOIDs {
		f.Add(requestFor(certID(hash, []byte{1, 2, 3})))
	}
	f.Add(requestFor(plainID, certID(crypto.SHA256, []byte{0xff, 0x7f})))
	f.Add(requestFor(seq(seq(hashOIDs[crypto.SHA1]), octets(nil), octets(nil), integer([]byte{0}))))
	f.Add(withExtensions(nonceExtension(make([]byte, 128))))
	f.Add(withExtensions(nonceExtension(nil), extension(oid(1, 2, 3), nil)))
	f.Add(withExtensions(seq(pkixOCSP(8), boolTrue, octets(seq(seq(seq(oid(1, 2, 3), null), seq(oid(1, 2))))))))
	f.Add(request(seq(seq(plainID, explicit(0, seq(nonceExtension([]byte("nonce"))))))))
	f.Add(request(explicit(0, integer([]byte{0})), explicit(1, tlv(0x86, []byte("http://x"))), seq(seq(plainID))))
	f.Add(seq(seq(seq(seq(plainID))), explicit(0, seq(seq(oid(1, 2, 3)), tlv(0x03, []byte{0, 1}), explicit(0, seq(seq()))))))

	var reused wire.Request
	f.Fuzz(func(t *testing.T, der []byte) {
		before := bytes.Clone(der)
		req, err := wire.ParseRequest(der)
		if bad := checkParsed(der, req, err); bad != nil {
			t.Fatal(bad)
		}
		if again := wire.ParseRequestInto(der, &reused); (again == nil) != (err == nil) {
			t.Fatalf("into a used Request: %v, into a new one: %v", again, err)
		}
		if !bytes.Equal(der, before) {
			t.Fatal("the request was changed")
		}
		if err == nil || len(der) > wire.MaxRequestLen {
			return
		}
		if theirs, theirErr := ocsp.ParseRequest(der); theirErr == nil {
			if canonical, e := theirs.Marshal(); e == nil && bytes.Equal(canonical, der) {
				t.Fatalf("x/crypto/ocsp accepts its own plain form, we say %v", err)
			}
		}
	})
}

// FuzzResponseRoundTrip writes answers of any content and has encoding/asn1 and
// x/crypto/ocsp read them.
func FuzzResponseRoundTrip(f *testing.F) {
	f.Add([]byte{1}, []byte("nonce"), uint8(1), 0, int64(1788258896), int64(1788518096), int64(0), true)
	f.Add([]byte{0, 0x80}, []byte(nil), uint8(2), 6, int64(0), int64(253402300799), int64(-62167219200), false)
	f.Add([]byte{0xff}, make([]byte, 128), uint8(0), -1, int64(-1), int64(1), int64(951782400), false)
	f.Fuzz(func(t *testing.T, serial, nonce []byte, status uint8, reason int, this, next, revoked int64, extended bool) {
		id := certID(crypto.SHA256, serial)
		req, err := wire.ParseRequest(requestFor(id))
		if err != nil {
			return // not a serial, so never asked for
		}
		for _, at := range []int64{this, next, revoked} {
			if at < -62167219200 || at > 253402300799 {
				return // moved to the border, which TestRFC9919_3_2_4_TimesInZWithSeconds holds
			}
		}
		one := wire.SingleResponse{
			CertID: req.CertIDs[0].Raw, Status: wire.CertStatus(status), Reason: reason,
			ThisUpdate: time.Unix(this, 0), NextUpdate: time.Unix(next, 0), RevokedAt: time.Unix(revoked, 0),
		}
		data := wire.ResponseData{ProducedAt: time.Unix(this, 0), Responses: []wire.SingleResponse{one}, Nonce: nonce, ExtendedRevoke: extended}
		if one.RevokedAt.IsZero() {
			return // encoding/asn1 leaves an optional zero time out, so it cannot judge
		}
		if err := checkData(data); err != nil {
			t.Fatal(err)
		}
		got, err := ocsp.ParseResponse(wire.MarshalBasic(data.Marshal(), seq(oid(1, 2, 3)), []byte("unsigned")), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := sameAsXCrypto(one, got); err != nil {
			t.Fatal(err)
		}
		if got.SerialNumber.Cmp(number(serial)) != 0 {
			t.Fatalf("got serial %v for %x", got.SerialNumber, serial)
		}
	})
}

// sameAsXCrypto compares what we wrote with what x/crypto/ocsp read.
func sameAsXCrypto(want wire.SingleResponse, got *ocsp.Response) error {
	status := ocsp.Unknown
	switch want.Status {
	case wire.StatusGood:
		status = ocsp.Good
	case wire.StatusRevoked:
		status = ocsp.Revoked
		if !got.RevokedAt.Equal(want.RevokedAt) {
			return errors.New("another revocation time")
		}
		if got.RevocationReason != 0 && got.RevocationReason != want.Reason {
			return errors.New("another reason")
		}
	}
	if got.Status != status || !got.ThisUpdate.Equal(want.ThisUpdate) || !got.NextUpdate.Equal(want.NextUpdate) {
		return errors.New("another status or another time")
	}
	return nil
}
