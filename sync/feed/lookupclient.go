package feed

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"ocspfleet/db"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// SignedAnswer is what a site's ocspsyncd hands to its ocspd: a signed Answer and the key set
// that it is to be judged by.
type SignedAnswer struct {
	Keys []byte // the key set, signed by the root
	Note []byte // the answer, signed
}

var errSignedAnswer = formError("the signed answer is not of the form")

// Marshal writes SEQUENCE { keys UTF8String, answer UTF8String }.
func (s SignedAnswer) Marshal() ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(s.Keys)+len(s.Note)+16))
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, note := range [][]byte{s.Keys, s.Note} {
			b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes(note) })
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("writing a signed answer: %w", err)
	}
	return der, nil
}

// ParseSignedAnswer reads it.
func ParseSignedAnswer(der []byte) (SignedAnswer, error) {
	in, body, keys, note := cryptobyte.String(der), cryptobyte.String(nil), cryptobyte.String(nil), cryptobyte.String(nil)
	if !in.ReadASN1(&body, asn1.SEQUENCE) || !in.Empty() || !body.ReadASN1(&keys, asn1.UTF8String) ||
		!body.ReadASN1(&note, asn1.UTF8String) || !body.Empty() {
		return SignedAnswer{}, errSignedAnswer
	}
	return SignedAnswer{Keys: keys, Note: note}, nil
}

const (
	// AskTimeout bounds a question from ocspd's side: a client waits.
	AskTimeout = time.Second
	// maxAsking is how many questions of one ocspd are under way; one more is
	// unanswered at once. 16 within a second suffice for what is just being issued.
	maxAsking = 16
	// askPath is where ocspsyncd listens on its socket.
	askPath = "/ask"
)

// ErrBusy says that too many questions are under way.
var ErrBusy = errors.New("too many questions are under way")

// LookupClient asks this site's ocspsyncd, over a Unix socket, for what the copy does not
// have, and believes only what a key signed that the root has named for it. Safe for
// concurrent use.
type LookupClient struct {
	http  *http.Client
	open  func(keys []byte) (*KeySet, error)
	slots chan struct{}
	now   func() time.Time
}

// NewLookupClient asks at a socket; open judges a key set by the pinned root. It connects
// on first use.
func NewLookupClient(socket string, open func(keys []byte) (*KeySet, error), now func() time.Time) *LookupClient {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &LookupClient{
		http: &http.Client{Transport: &http.Transport{
			DialContext: dial, DisableCompression: true, MaxIdleConnsPerHost: maxAsking, MaxConnsPerHost: maxAsking,
			IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 8 << 10,
		}},
		open: open, slots: make(chan struct{}, maxAsking), now: now,
	}
}

// Close drops idle connections.
func (q *LookupClient) Close() { q.http.CloseIdleConnections() }

// Ask returns a verified answer that is newer than a copy at a horizon which has no
// such serial, or an error, within AskTimeout. No error names the serial.
func (q *LookupClient) Ask(ctx context.Context, issuer [32]byte, serial db.Serial, at db.Horizon) (*Answer, error) {
	select {
	case q.slots <- struct{}{}:
		defer func() { <-q.slots }()
	default:
		return nil, ErrBusy
	}
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	reply, err := q.fetch(ctx, issuer, serial, at)
	if err != nil {
		if fault := (*url.Error)(nil); errors.As(err, &fault) {
			err = fault.Err // the address names the serial
		}
		return nil, fmt.Errorf("asking this site's ocspsyncd: %w", err)
	}
	set, err := q.open(reply.Keys)
	if err != nil {
		return nil, err
	}
	a, err := set.OpenAnswer(reply.Note)
	if err != nil {
		return nil, err
	}
	return a, a.Answers(issuer, serial, at, q.now())
}

func (q *LookupClient) fetch(ctx context.Context, issuer [32]byte, serial db.Serial, at db.Horizon) (SignedAnswer, error) {
	query := url.Values{
		"issuer": {hex.EncodeToString(issuer[:])}, "serial": {serial.String()}, "position": {strconv.FormatInt(at.Position, 10)},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://ocspsyncd"+askPath+"?"+query.Encode(), nil)
	if err != nil {
		return SignedAnswer{}, err
	}
	response, err := q.http.Do(request)
	if err != nil {
		return SignedAnswer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 2*MaxNote+64))
	switch {
	case err != nil:
		return SignedAnswer{}, err
	case response.StatusCode != http.StatusOK:
		return SignedAnswer{}, fmt.Errorf("it has no answer: status %d", response.StatusCode)
	}
	return ParseSignedAnswer(body)
}

// Answers says whether an answer may be used, now, for a serial that a copy at a
// horizon does not have: it is to that very question, of the copy's epoch, not past its
// end, and, where it says that there is a certificate, newer than the copy, which
// would have it otherwise.
func (a *Answer) Answers(issuer [32]byte, serial db.Serial, at db.Horizon, now time.Time) error {
	switch {
	case a.Issuer != issuer || string(a.Serial) != string(serial):
		return fmt.Errorf("%w: it is for another certificate", ErrAnswer)
	case a.Epoch != at.Epoch:
		return fmt.Errorf("%w: it is of epoch %d, the copy is of %d", ErrAnswer, a.Epoch, at.Epoch)
	case a.Issued && a.Position <= at.Position:
		return fmt.Errorf("%w: it is of position %d, the copy is at %d", ErrAnswer, a.Position, at.Position)
	case !now.Before(a.Until):
		return fmt.Errorf("%w: it ended at %s", ErrAnswer, stamp(a.Until))
	}
	return nil
}
