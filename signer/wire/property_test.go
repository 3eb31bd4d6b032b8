package wire_test

import (
	"bytes"
	"crypto"
	"errors"
	"math/big"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"golang.org/x/crypto/ocsp"

	"ocspfleet/signer/wire"
)

// anySerial draws minimal two's complement octets of either sign.
func anySerial(t *rapid.T) []byte {
	b := rapid.SliceOfN(rapid.Byte(), 1, 24).Draw(t, "serial")
	for len(b) > 1 && (b[0] == 0 && b[1] < 0x80 || b[0] == 0xff && b[1] >= 0x80) {
		b = b[1:]
	}
	return b
}

// anyCertID draws a CertID of a known or unknown hash, and its DER.
func anyCertID(t *rapid.T) wire.CertID {
	id := wire.CertID{
		Hash:     rapid.SampledFrom([]crypto.Hash{0, crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}).Draw(t, "hash"),
		NameHash: rapid.SliceOfN(rapid.Byte(), 0, 65).Draw(t, "name hash"),
		KeyHash:  rapid.SliceOfN(rapid.Byte(), 0, 65).Draw(t, "key hash"),
		Serial:   anySerial(t),
	}
	alg := [][]byte{hashOIDs[id.Hash]}
	if id.Hash == 0 {
		alg[0] = oid(1, 2, rapid.IntRange(0, 1<<30).Draw(t, "arc"))
	}
	if rapid.Bool().Draw(t, "NULL") {
		alg = append(alg, null)
	}
	id.Raw = seq(seq(alg...), octets(id.NameHash), octets(id.KeyHash), integer(id.Serial))
	return id
}

// anyRequest draws a request that we must understand, and what is in it.
func anyRequest(t *rapid.T) ([]byte, wire.Request) {
	want := wire.Request{CertIDs: rapid.SliceOfN(rapid.Custom(anyCertID), 1, 5).Draw(t, "CertIDs")}
	ignored := extension(oid(1, 2, 3, rapid.IntRange(0, 999).Draw(t, "extension")), []byte("ignored"))
	var tbs, list, exts [][]byte
	if rapid.Bool().Draw(t, "version") {
		tbs = append(tbs, explicit(0, integer([]byte{0})))
	}
	if rapid.Bool().Draw(t, "requestorName") {
		tbs = append(tbs, explicit(1, tlv(0x82, rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "name"))))
	}
	for _, id := range want.CertIDs {
		if rapid.Bool().Draw(t, "singleRequestExtensions") {
			list = append(list, seq(id.Raw, explicit(0, seq(ignored))))
		} else {
			list = append(list, seq(id.Raw))
		}
	}
	if rapid.Bool().Draw(t, "unknown extension") {
		exts = append(exts, ignored)
	}
	if rapid.Bool().Draw(t, "nonce") {
		want.Nonce = rapid.SliceOfN(rapid.Byte(), 1, 128).Draw(t, "nonce octets")
		exts = append(exts, nonceExtension(want.Nonce))
	}
	if rapid.Bool().Draw(t, "preferred") {
		want.PreferredSigAlgs = []wire.PreferredSigAlg{
			{Signature: seq(oid(1, 2, 840, 10045, 4, 3, 2)), PublicKey: seq(oid(1, 2, 840, 10045, 2, 1), oid(1, 2, 840, 10045, 3, 1, 7))},
			{Signature: seq(oid(1, 2, 840, 113549, 1, 1, 11), null)},
		}
		exts = append(exts, extension(pkixOCSP(8), seq(seq(want.PreferredSigAlgs[0].Signature, want.PreferredSigAlgs[0].PublicKey), seq(want.PreferredSigAlgs[1].Signature))))
	}
	tbs = append(tbs, seq(list...))
	if len(exts) > 0 {
		tbs = append(tbs, explicit(2, seq(rapid.Permutation(exts).Draw(t, "order")...)))
	}
	return request(tbs...), want
}

func TestPropertyRequestRoundTrip(t *testing.T) {
	var reused wire.Request
	rapid.Check(t, func(t *rapid.T) {
		der, want := anyRequest(t)
		got, err := wire.ParseRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, emptyIsNil); diff != "" {
			t.Fatal(diff)
		}
		if err := wire.ParseRequestInto(der, &reused); err != nil || cmp.Diff(want, reused, emptyIsNil) != "" {
			t.Fatalf("into a used Request: %v, %s", err, cmp.Diff(want, reused, emptyIsNil))
		}
	})
}

// within says whether part lies in whole, without copying.
func within(whole, part []byte) bool {
	if len(part) == 0 {
		return true
	}
	offset := uintptr(unsafe.Pointer(&part[0])) - uintptr(unsafe.Pointer(&whole[0]))
	return offset < uintptr(len(whole)) && offset+uintptr(len(part)) <= uintptr(len(whole))
}

// checkParsed judges whatever came out of the parser, for any input.
func checkParsed(der []byte, req wire.Request, err error) error {
	if err != nil {
		if !errors.Is(err, wire.ErrMalformed) {
			return errors.New("an error that is not ErrMalformed: " + err.Error())
		}
		if len(req.CertIDs) != 0 || req.Nonce != nil || len(req.PreferredSigAlgs) != 0 {
			return errors.New("an error and a request")
		}
		return nil
	}
	if n := len(req.CertIDs); n < 1 || n > wire.MaxCertIDs || len(der) > wire.MaxRequestLen || len(req.PreferredSigAlgs) > wire.MaxPreferredSigAlgs {
		return errors.New("a bound was passed")
	}
	if req.Nonce != nil && (len(req.Nonce) < 1 || len(req.Nonce) > wire.MaxNonceLen || !within(der, req.Nonce)) {
		return errors.New("a nonce of a wrong length, or from nowhere")
	}
	for _, id := range req.CertIDs {
		for _, part := range [][]byte{id.Raw, id.NameHash, id.KeyHash, id.Serial} {
			if !within(der, part) {
				return errors.New("octets that are not in the request")
			}
		}
		again, err := wire.ParseRequest(requestFor(id.Raw))
		if err != nil {
			return err
		}
		if diff := cmp.Diff(id, again.CertIDs[0]); diff != "" {
			return errors.New("another CertID when asked alone: " + diff)
		}
		if id.Hash == 0 {
			continue // x/crypto/ocsp refuses hashes that it does not know
		}
		theirs, err := ocsp.ParseRequest(requestFor(id.Raw))
		if err != nil {
			return errors.New("a CertID that x/crypto/ocsp refuses: " + err.Error())
		}
		if theirs.HashAlgorithm != id.Hash || !bytes.Equal(theirs.IssuerNameHash, id.NameHash) ||
			!bytes.Equal(theirs.IssuerKeyHash, id.KeyHash) || theirs.SerialNumber.Cmp(number(id.Serial)) != 0 {
			return errors.New("another CertID than x/crypto/ocsp reads")
		}
	}
	return nil
}

// number reads two's complement.
func number(content []byte) *big.Int {
	n := new(big.Int).SetBytes(content)
	if len(content) > 0 && content[0] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(content))))
	}
	return n
}

func TestPropertyMutatedRequestsNeverPanic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		der, _ := anyRequest(t)
		for range rapid.IntRange(1, 5).Draw(t, "mutations") {
			at := rapid.IntRange(0, len(der)-1).Draw(t, "at")
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				der[at] = rapid.Byte().Draw(t, "octet")
			case 1:
				der = append(der[:at:at], append(rapid.SliceOfN(rapid.Byte(), 1, 4).Draw(t, "insert"), der[at:]...)...)
			default:
				if len(der) > 1 {
					der = append(der[:at:at], der[at+1:]...)
				}
			}
		}
		req, err := wire.ParseRequest(der)
		if err := checkParsed(der, req, err); err != nil {
			t.Fatal(err)
		}
	})
}

// Each octet of a request with each bit turned, one up, one down, and the values
// where lengths and tags change their form.
func TestEveryOneOctetMutation(t *testing.T) {
	der := request(seq(seq(plainID)), explicit(2, seq(nonceExtension([]byte("0123")))))
	for at := range der {
		was := der[at]
		values := []byte{0, 0x1f, 0x7f, 0x80, 0x81, 0xff, was + 1, was - 1}
		for bit := range 8 {
			values = append(values, was^1<<bit)
		}
		for _, value := range values {
			der[at] = value
			req, err := wire.ParseRequest(der)
			if err := checkParsed(der, req, err); err != nil {
				t.Fatalf("octet %d = %#x: %v", at, value, err)
			}
		}
		der[at] = was
	}
}

// anyTime draws whole seconds that a GeneralizedTime can say.
func anyTime(t *rapid.T, label string) time.Time {
	return time.Unix(rapid.Int64Range(-62167219200, 253402300799).Draw(t, label), 0).UTC()
}

// checkData judges a marshalled ResponseData by encoding/asn1.
func checkData(data wire.ResponseData) error {
	got, err := unmarshal[asnData](data.Marshal())
	if err != nil {
		return err
	}
	if !bytes.Equal(got.KeyHash, data.ResponderKeyHash[:]) || !got.ProducedAt.Equal(data.ProducedAt) || len(got.Responses) != len(data.Responses) {
		return errors.New("another key hash, producedAt or number of responses")
	}
	for i, want := range data.Responses {
		one := got.Responses[i]
		revoked := want.Status == wire.StatusRevoked
		if !bytes.Equal(one.CertID.FullBytes, want.CertID) || bool(one.Good) != (want.Status == wire.StatusGood) ||
			bool(one.Unknown) != (want.Status != wire.StatusGood && !revoked) ||
			!one.ThisUpdate.Equal(want.ThisUpdate) || !one.NextUpdate.Equal(want.NextUpdate) ||
			revoked && !one.Revoked.At.Equal(want.RevokedAt) {
			return errors.New("another single response: " + cmp.Diff(want, one))
		}
		cutoff := extension(pkixOCSP(6), tlv(0x18, []byte(want.ArchiveCutoff.UTC().Format("20060102150405Z"))))
		if n := len(one.Extensions); n > 1 || (n == 1) == want.ArchiveCutoff.IsZero() || n == 1 && !bytes.Contains(data.Marshal(), cutoff) {
			return errors.New("another archive cutoff")
		}
		if revoked && want.Reason >= 1 && want.Reason <= 6 && int(one.Revoked.Reason) != want.Reason {
			return errors.New("another reason")
		}
	}
	exts := got.Extensions
	if len(data.Nonce) > 0 {
		if len(exts) == 0 || !bytes.Equal(exts[0].Value, octets(data.Nonce)) {
			return errors.New("no such nonce")
		}
		exts = exts[1:]
	}
	if data.ExtendedRevoke != (len(exts) == 1) || len(exts) > 1 {
		return errors.New("extensions too many or too few")
	}
	return nil
}

func TestPropertyResponseRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := wire.ResponseData{
			ResponderKeyHash: [20]byte(rapid.SliceOfN(rapid.Byte(), 20, 20).Draw(t, "key hash")),
			ProducedAt:       anyTime(t, "producedAt"),
			Nonce:            rapid.SliceOfN(rapid.Byte(), 0, 128).Draw(t, "nonce"),
			ExtendedRevoke:   rapid.Bool().Draw(t, "extended revoke"),
		}
		for range rapid.IntRange(1, 20).Draw(t, "responses") {
			cutoff := time.Time{}
			if rapid.Bool().Draw(t, "has a cutoff") {
				cutoff = anyTime(t, "cutoff")
			}
			data.Responses = append(data.Responses, wire.SingleResponse{
				ArchiveCutoff: cutoff, CertID: anyCertID(t).Raw, Status: wire.CertStatus(rapid.IntRange(0, 4).Draw(t, "status")),
				RevokedAt: anyTime(t, "revokedAt"), Reason: rapid.IntRange(-1, 12).Draw(t, "reason"),
				ThisUpdate: anyTime(t, "thisUpdate"), NextUpdate: anyTime(t, "nextUpdate"),
			})
		}
		if err := checkData(data); err != nil {
			t.Fatal(err)
		}
		signature := rapid.SliceOfN(rapid.Byte(), 0, 600).Draw(t, "signature")
		certs := rapid.SliceOfN(rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 300), func(b []byte) []byte { return seq(octets(b)) }), 0, 3).Draw(t, "certs")
		alg := seq(oid(1, 2, 3), null)
		resp, err := unmarshal[asnResponse](wire.MarshalBasic(data.Marshal(), alg, signature, certs...))
		if err != nil {
			t.Fatal(err)
		}
		basic, err := unmarshal[asnBasic](resp.Bytes.Response)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Status != 0 || !bytes.Equal(basic.Data.FullBytes, data.Marshal()) || !bytes.Equal(basic.Signature.Bytes, signature) ||
			basic.Signature.BitLength != 8*len(signature) || len(basic.Certificates) != len(certs) {
			t.Fatalf("got %+v", basic)
		}
		for i := range certs {
			if !bytes.Equal(basic.Certificates[i].FullBytes, certs[i]) {
				t.Fatalf("certificate %d is another", i)
			}
		}
	})
}
