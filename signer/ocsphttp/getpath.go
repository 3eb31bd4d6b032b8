package ocsphttp

import (
	"encoding/base64"
	"strings"

	"ocspfleet/signer/wire"
)

// maxCuts bounds how many places of a path are fully tried as the start of a request; normally
// 1 is enough.
const maxCuts = 8

// pathWork is the memory of one decodeGET, reused by later ones.
type pathWork struct {
	text []byte // the path in the standard alphabet, without line breaks
	der  []byte
	req  wire.Request
}

// decodeGET finds the request in the path of a GET (RFC 9919 section 5: the
// base64 of the DER, URL-encoded, after the responder's URL). The path is
// unescaped, as url.URL.Path is.
//
// A request does not show where the responder's URL ends, and base64 has slashes too. So
// decodeGET tries, from the left, each place after a slash where a DER SEQUENCE of exactly the
// remaining length begins. The first that parses wins; if none parses, the first one is
// returned, so that the answer is malformedRequest as for a POST. The result is valid until w
// is used again; ok is false when no part of the path is base64 of a SEQUENCE.
func decodeGET(path string, w *pathWork) (der []byte, ok bool) {
	// Some proxies escape twice: base64 has no percent sign.
	if strings.Contains(path, "%") {
		path = strings.NewReplacer("%2B", "+", "%2b", "+", "%2F", "/", "%2f", "/", "%3D", "=", "%3d", "=",
			"%0A", "", "%0a", "", "%0D", "", "%0d", "").Replace(path)
	}
	text := w.text[:0]
	for i := range len(path) {
		switch c := path[i]; c {
		case '\r', '\n': // clients that break lines, or end with a line break
		case ' ': // a plus sign that a program decoded as a blank
			text = append(text, '+')
		case '-': // base64url
			text = append(text, '+')
		case '_':
			text = append(text, '/')
		default:
			text = append(text, c)
		}
	}
	w.text = text
	for len(text) > 0 && text[len(text)-1] == '=' { // missing padding is accepted
		text = text[:len(text)-1]
	}
	first := 0 // where the first SEQUENCE began, 0 for none
	for i, cuts := 1, 0; i < len(text) && cuts < maxCuts; i++ {
		if text[i-1] != '/' || !beginsSequence(text[i:]) {
			continue
		}
		cuts++
		if !w.decode(text[i:]) {
			continue
		}
		if wire.ParseRequestInto(w.der, &w.req) == nil {
			return w.der, true
		}
		if first == 0 {
			first = i
		}
	}
	if first == 0 {
		return nil, false
	}
	return w.der, w.decode(text[first:])
}

// decode decodes unpadded base64 into w.der.
func (w *pathWork) decode(text []byte) bool {
	size := base64.RawStdEncoding.DecodedLen(len(text))
	if cap(w.der) < size {
		w.der = make([]byte, size)
	}
	n, err := base64.RawStdEncoding.Decode(w.der[:size], text)
	w.der = w.der[:n]
	return err == nil
}

// beginsSequence says whether unpadded base64 begins with the header of a DER
// SEQUENCE that fills it exactly.
func beginsSequence(text []byte) bool {
	const headLen = 8 // characters: 6 octets, more than a header up to 65,535
	if len(text) < headLen || text[0] != 'M' {
		return false
	}
	var head [6]byte
	if n, err := base64.RawStdEncoding.Decode(head[:], text[:headLen]); err != nil || n != len(head) || head[0] != 0x30 {
		return false
	}
	total := 0
	switch {
	case head[1] < 0x80:
		total = 2 + int(head[1])
	case head[1] == 0x81:
		total = 3 + int(head[2])
	case head[1] == 0x82:
		total = 4 + int(head[2])<<8 + int(head[3])
	}
	return total == base64.RawStdEncoding.DecodedLen(len(text))
}
