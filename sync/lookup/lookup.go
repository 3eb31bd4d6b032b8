package lookup

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
	"ocspfleet/sync/feed"
)

const (
	// Timeout bounds a question from ocspd's side: a client waits.
	Timeout = time.Second
	// maxAsking is how many questions of one ocspd may be in progress; further ones fail at
	// once. 16 within a second are enough for certificates that are just being issued.
	maxAsking = 16
	// askPath is where ocspsyncd listens on its socket.
	askPath = "/ask"
)

// ErrBusy says that too many questions are in progress.
var ErrBusy = errors.New("too many questions are under way")

// Client asks this site's ocspsyncd, over a Unix socket, for serials that the copy does not
// have, and verifies the answers. Safe for concurrent use.
type Client struct {
	http  *http.Client
	open  func(keys []byte) (*feed.KeySet, error)
	slots chan struct{}
	now   func() time.Time
}

// New returns a client for a socket; open verifies a key set by the pinned root. The client
// connects on first use.
func New(socket string, open func(keys []byte) (*feed.KeySet, error), now func() time.Time) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &Client{
		http: &http.Client{Transport: &http.Transport{
			DialContext: dial, DisableCompression: true, MaxIdleConnsPerHost: maxAsking, MaxConnsPerHost: maxAsking,
			IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 8 << 10,
		}},
		open: open, slots: make(chan struct{}, maxAsking), now: now,
	}
}

// Close drops idle connections.
func (q *Client) Close() { q.http.CloseIdleConnections() }

// Ask returns a verified answer that is newer than a copy at a horizon without that serial, or
// an error, within Timeout. No error names the serial.
func (q *Client) Ask(ctx context.Context, issuer [32]byte, serial db.Serial, at db.Horizon) (*feed.Answer, error) {
	select {
	case q.slots <- struct{}{}:
		defer func() { <-q.slots }()
	default:
		return nil, ErrBusy
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	reply, err := q.fetch(ctx, issuer, serial, at)
	if err != nil {
		if fault := (*url.Error)(nil); errors.As(err, &fault) {
			err = fault.Err // the address contains the serial
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

func (q *Client) fetch(ctx context.Context, issuer [32]byte, serial db.Serial, at db.Horizon) (feed.SignedAnswer, error) {
	query := url.Values{
		"issuer": {hex.EncodeToString(issuer[:])}, "serial": {serial.String()}, "position": {strconv.FormatInt(at.Position, 10)},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://ocspsyncd"+askPath+"?"+query.Encode(), nil)
	if err != nil {
		return feed.SignedAnswer{}, err
	}
	response, err := q.http.Do(request)
	if err != nil {
		return feed.SignedAnswer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 2*feed.MaxNote+64))
	switch {
	case err != nil:
		return feed.SignedAnswer{}, err
	case response.StatusCode != http.StatusOK:
		return feed.SignedAnswer{}, fmt.Errorf("it has no answer: status %d", response.StatusCode)
	}
	return feed.ParseSignedAnswer(body)
}
