package garbage

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// attacker sends what no client should.
type attacker struct {
	address string
	good    [][]byte // well-formed requests
	client  *http.Client
}

// attacks are the kinds, each once over. An error is a fault of the site.
var attacks = []func(*attacker, context.Context) error{
	(*attacker).mutatedPOST, (*attacker).mutatedPOST, (*attacker).mutatedGET, (*attacker).nonce,
	(*attacker).serial, (*attacker).noise, (*attacker).notOCSP, (*attacker).rawNoise, (*attacker).hangUp, (*attacker).pipelined,
}

// run attacks until ctx ends and returns how often it did.
func (a *attacker) run(ctx context.Context) (int, error) {
	defer a.client.CloseIdleConnections()
	for n := 0; ; n++ {
		err := attacks[rand.IntN(len(attacks))](a, ctx)
		// A dialer may see the deadline before the context says so.
		if end, ok := ctx.Deadline(); ctx.Err() != nil || (ok && !time.Now().Before(end)) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

func (a *attacker) any() []byte { return a.good[rand.IntN(len(a.good))] }

// mutate breaks octets out of a good request.
func mutate(der []byte) []byte {
	broken := bytes.Clone(der)
	for range 1 + rand.IntN(4) {
		at := rand.IntN(len(broken))
		switch rand.IntN(5) {
		case 0:
			broken[at] ^= byte(1 << rand.IntN(8))
		case 1:
			broken[at] = []byte{0, 0x30, 0x80, 0x84, 0xff}[rand.IntN(5)]
		case 2:
			broken = broken[:at+1]
		case 3:
			broken = append(broken, broken[at:]...)
		case 4:
			broken = append(broken[:at:at], append(random(rand.IntN(9)), broken[at:]...)...)
		}
		if len(broken) > 20_000 {
			broken = broken[:20_000]
		}
	}
	return broken
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func (a *attacker) do(ctx context.Context, method, path, kind string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+a.address+path, bytes.NewReader(body))
	if err != nil {
		return nil // not to be written as a URL: rawNoise has those
	}
	r.Header.Set("Content-Type", kind)
	response, err := a.client.Do(r)
	if err != nil {
		if ctx.Err() != nil || len(body) > 16<<10 { // the site closes before it has read all
			return nil
		}
		return fmt.Errorf("%s with %d octets: %w", method, len(body), err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: reading the answer: %w", method, err)
	}
	if response.StatusCode >= 500 {
		return fmt.Errorf("%s with %d octets (%.60x): HTTP status %d", method, len(body), body, response.StatusCode)
	}
	return nil
}

const requestType = "application/ocsp-request"

func (a *attacker) mutatedPOST(ctx context.Context) error {
	return a.do(ctx, "POST", "/", requestType, mutate(a.any()))
}

func (a *attacker) mutatedGET(ctx context.Context) error {
	text := []byte(base64.URLEncoding.EncodeToString(mutate(a.any())))
	if len(text) > 0 && rand.IntN(2) == 0 {
		text[rand.IntN(len(text))] = "/=%+-_.~!"[rand.IntN(9)]
	}
	return a.do(ctx, "GET", "/"+string(text), "", nil)
}

// nonce asks with a nonce of any length, so that each answer is one more signature.
func (a *attacker) nonce(ctx context.Context) error {
	in := cryptobyte.String(a.any())
	var outer, tbs cryptobyte.String
	if !in.ReadASN1(&outer, asn1.SEQUENCE) || !outer.ReadASN1(&tbs, asn1.SEQUENCE) {
		return errors.New("adding a nonce: no request")
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(tbs)
			b.AddASN1(asn1.Tag(2).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddBytes([]byte{6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2}) // id-pkix-ocsp-nonce
						b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(random(rand.IntN(140))) })
					})
				})
			})
		})
	})
	return a.do(ctx, "POST", "/", requestType, b.BytesOrPanic())
}

// serial asks for a serial that was never issued.
func (a *attacker) serial(ctx context.Context) error {
	der := bytes.Clone(a.any())
	copy(der[len(der)-8:], random(8))
	return a.do(ctx, "POST", "/", requestType, der)
}

func (a *attacker) noise(ctx context.Context) error {
	return a.do(ctx, "POST", "/", requestType, random(rand.IntN(20_000)))
}

func (a *attacker) notOCSP(ctx context.Context) error {
	method := []string{"PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "POST", "GET", "HEAD"}[rand.IntN(8)]
	path := []string{"/", "/favicon.ico", "//../..", "/%2e%2e/%00", "/" + base64.StdEncoding.EncodeToString(random(300))}[rand.IntN(5)]
	return a.do(ctx, method, path, "text/html", random(rand.IntN(100)))
}

// raw opens a connection, sends octets and closes it, by RST or after an answer.
func (a *attacker) raw(ctx context.Context, sent []byte, reset bool) error {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", a.address)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("connecting: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(15 * time.Second))
	_ = conn.(*net.TCPConn).SetLinger(0) // RST: nothing is left in TIME_WAIT, of which a port has one
	if _, err := conn.Write(sent); err != nil || reset {
		return nil
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil // closed without a word: its right, for what is no HTTP
	}
	response.Body.Close()
	if response.StatusCode >= 500 && response.StatusCode != http.StatusHTTPVersionNotSupported && response.StatusCode != http.StatusNotImplemented {
		return fmt.Errorf("sent %.200q: HTTP status %d", sent, response.StatusCode)
	}
	return nil
}

func (a *attacker) rawNoise(ctx context.Context) error {
	start := []string{"", "GET /", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01"}[rand.IntN(5)]
	return a.raw(ctx, append([]byte(start), random(rand.IntN(2000))...), false)
}

func (a *attacker) hangUp(ctx context.Context) error {
	der := a.any()
	head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", requestType, len(der))
	whole := append([]byte(head), der...)
	return a.raw(ctx, whole[:rand.IntN(len(whole))+1], rand.IntN(2) == 0)
}

func (a *attacker) pipelined(ctx context.Context) error {
	var all bytes.Buffer
	for range 1 + rand.IntN(20) {
		fmt.Fprintf(&all, "GET /%s HTTP/1.1\r\nHost: x\r\n\r\n", base64.URLEncoding.EncodeToString(mutate(a.any())))
	}
	return a.raw(ctx, all.Bytes(), rand.IntN(2) == 0)
}
