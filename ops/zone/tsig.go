package zone

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"time"

	"github.com/miekg/dns"
)

// fudge is how many seconds two clocks may differ (RFC 8945 section 10).
const fudge = 300

// verify checks an answer's signature (RFC 8945 section 5.3); mac is the MAC of the query, in
// hex. An answer with an error code may be unsigned; an answer of success must be signed.
func (z *Zone) verify(raw []byte, answer *dns.Msg, mac string) error {
	t := answer.IsTsig()
	switch {
	case t == nil && answer.Rcode == dns.RcodeSuccess:
		return errors.New("the answer is not signed: whoever sent it has no TSIG, or is not the server")
	case t == nil:
		return nil
	case t.MACSize == 0 && answer.Rcode == dns.RcodeNotAuth && (t.Error == dns.RcodeBadKey || t.Error == dns.RcodeBadSig):
		return nil // section 5.3.2: such an error cannot be signed
	case dns.CanonicalName(t.Hdr.Name) != z.c.Key.Name || dns.CanonicalName(t.Algorithm) != z.c.Key.wire():
		return errors.New("the answer is signed by another key")
	}
	want, err := z.c.Key.mac(raw, t, mac)
	if err != nil {
		return fmt.Errorf("verifying the answer's signature: %w", err)
	}
	// Section 5.2.2.1 allows a server to truncate its MAC; none does so unasked.
	if got, err := hex.DecodeString(t.MAC); err != nil || !hmac.Equal(got, want) {
		return errors.New("the answer's signature is wrong")
	}
	apart := z.c.Now().Sub(time.Unix(int64(t.TimeSigned), 0))
	if t.Error != dns.RcodeBadTime && apart.Abs() > fudge*time.Second {
		return fmt.Errorf("the answer was signed %s away from now: is it an old one, or a clock wrong?", apart.Abs().Truncate(time.Second))
	}
	return nil
}

// mac computes an answer's MAC (RFC 8945 section 4.3) over its exact octets: the library does
// not verify an answer of NOTAUTH, such as one about clocks.
func (k Key) mac(raw []byte, t *dns.TSIG, question string) ([]byte, error) {
	end, err := beforeTSIG(raw)
	if err != nil {
		return nil, err
	}
	asked, err := hex.DecodeString(question)
	if err != nil {
		return nil, err
	}
	other, err := hex.DecodeString(t.OtherData)
	if err != nil {
		return nil, err
	}
	text := binary.BigEndian.AppendUint16(nil, uint16(len(asked))) // section 4.3.1
	text = append(text, asked...)
	head := len(text)
	text = append(text, raw[:end]...) // section 4.3.2: without the TSIG, and with the first ID
	binary.BigEndian.PutUint16(text[head:], t.OrigId)
	binary.BigEndian.PutUint16(text[head+10:], binary.BigEndian.Uint16(text[head+10:])-1)
	for _, part := range []struct { // section 4.3.3
		name   string
		fields []byte
	}{
		{k.Name, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, dns.ClassANY), 0)},
		{k.wire(), nil},
	} {
		wire := make([]byte, 256)
		n, err := dns.PackDomainName(part.name, wire, 0, nil, false)
		if err != nil {
			return nil, err
		}
		text = append(append(text, wire[:n]...), part.fields...)
	}
	text = append(text, binary.BigEndian.AppendUint64(nil, t.TimeSigned)[2:]...)
	for _, field := range []uint16{t.Fudge, t.Error, uint16(len(other))} {
		text = binary.BigEndian.AppendUint16(text, field)
	}
	h := hmac.New(map[string]func() hash.Hash{"hmac-sha256": sha256.New, "hmac-sha384": sha512.New384, "hmac-sha512": sha512.New}[k.algorithm()], k.Secret)
	h.Write(append(text, other...))
	return h.Sum(nil), nil
}

// beforeTSIG is where the last record of a message begins.
func beforeTSIG(raw []byte) (int, error) {
	const header = 12
	if len(raw) < header {
		return 0, errors.New("it has no header")
	}
	at := header
	for range binary.BigEndian.Uint16(raw[4:]) {
		_, after, err := dns.UnpackDomainName(raw, at)
		if err != nil {
			return 0, err
		}
		at = after + 4 // type and class
	}
	records := -1
	for _, count := range []int{6, 8, 10} {
		records += int(binary.BigEndian.Uint16(raw[count:]))
	}
	for range records {
		_, after, err := dns.UnpackRR(raw, at)
		if err != nil {
			return 0, err
		}
		at = after
	}
	return at, nil
}

// serverTime returns the server's clock, if the server refused ours (RFC 8945 section 5.2.3).
func serverTime(t *dns.TSIG) (time.Time, bool) {
	seconds, err := strconv.ParseUint(t.OtherData, 16, 48)
	return time.Unix(int64(seconds), 0).UTC(), err == nil && t.OtherLen == 6
}
