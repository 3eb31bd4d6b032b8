package feedhttp

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feed"
)

// ClientConfig is the source and this site's key.
type ClientConfig struct {
	// URL of the source, without path: https://master.example:9443.
	URL string
	// Pin of the source's TLS key.
	Pin Pin
	// Master says that the source is the master itself: only the master can deny this site
	// access. A peer's statement about that is ignored.
	Master bool
	// Identity of this site; its pin is in the source's access list.
	Identity *Identity
	// Stall is how long an answer may send nothing, or be slower than 64 kbit/s on average.
	// Default 30 s.
	Stall time.Duration
}

// Client fetches from one source, the master or a peer, and bounds the answers in size and
// time. It verifies nothing: the key set does. Safe for concurrent use.
type Client struct {
	cfg      ClientConfig
	base     string
	http     *http.Client
	answered atomic.Bool // at least once
}

// Faults of a source. ErrSlow and ErrEndless are ErrSource, too.
var (
	// ErrSource says that a source sent something that is not an answer of a feed.
	ErrSource = errors.New("the source does not answer as a feed does")
	// ErrSlow says that the source was silent or too slow.
	ErrSlow = fmt.Errorf("%w: it is too slow", ErrSource)
	// ErrEndless says that the source sends more than any valid answer.
	ErrEndless = fmt.Errorf("%w: it sends too much", ErrSource)
	// ErrAccessDenied says that the source knows this site and refuses it. It is an ErrPin, too.
	ErrAccessDenied = fmt.Errorf("%w: this site is not let in any more", ErrPin)
)

// NewClient checks the address; the client connects on first use.
func NewClient(cfg ClientConfig) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("source %q: want https://HOST:PORT", cfg.URL)
	}
	if cfg.Stall == 0 {
		cfg.Stall = 30 * time.Second
	}
	transport := &http.Transport{
		TLSClientConfig: cfg.Identity.ClientTLS(cfg.Pin), ForceAttemptHTTP2: true, DisableCompression: true,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 5 * time.Minute, MaxIdleConnsPerHost: 2,
		MaxResponseHeaderBytes: 8 << 10, ResponseHeaderTimeout: maxWait + cfg.Stall,
	}
	return &Client{cfg: cfg, base: "https://" + u.Host, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// String names the source, in logs.
func (c *Client) String() string { return c.base }

// Master says whether the source is the master itself.
func (c *Client) Master() bool { return c.cfg.Master }

// Pin is the pin of the source's TLS key.
func (c *Client) Pin() Pin { return c.cfg.Pin }

// Self is the pin of this client's own key.
func (c *Client) Self() Pin { return c.cfg.Identity.Pin }

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Keys fetches the newest key set.
func (c *Client) Keys(ctx context.Context) ([]byte, error) {
	body, _, err := c.get(ctx, "/feed/keys", "", feed.MaxNote, 0)
	return body, err
}

// Checkpoint waits for a checkpoint beyond a position, or for another one than tag names ("":
// any), whichever comes first. It returns nil when nothing came in time; the returned tag is
// for the next call.
func (c *Client) Checkpoint(ctx context.Context, after int64, tag string, wait time.Duration) (note []byte, next string, err error) {
	wait = min(wait, maxWait)
	return c.get(ctx, "/feed/checkpoint?after="+strconv.FormatInt(after, 10)+"&wait="+wait.String(), tag, feed.MaxNote, wait)
}

// News waits for a checkpoint newer than seen, the newest one that this site has accepted, at
// position after, under key set keys. It returns nil when nothing came in time. Without seen it
// returns the newest checkpoint at once, or as soon as it is beyond after.
func (c *Client) News(ctx context.Context, after int64, seen []byte, keys int64, wait time.Duration) (*News, error) {
	wait = min(wait, maxWait)
	path := "/feed/news?after=" + strconv.FormatInt(after, 10) + "&wait=" + wait.String()
	if seen != nil {
		path += "&seen=" + Tag(seen) + "&keys=" + strconv.FormatInt(keys, 10)
		if at := feed.AsOf(seen); !c.cfg.Master && !at.IsZero() { // the master knows its own checkpoints
			path += "&at=" + strconv.FormatInt(at.UnixMicro(), 10)
		}
	}
	body, _, err := c.get(ctx, path, "", MaxNews, wait)
	if err != nil || body == nil {
		return nil, err
	}
	news, err := openNews(body, seen)
	if err != nil {
		return nil, fmt.Errorf("asking %s for news: %w", c, err)
	}
	return news, nil
}

// Segment fetches a sealed segment; db.ErrNotFound when the source does not have it.
func (c *Client) Segment(ctx context.Context, epoch, number int64) (feed.Sealed, error) {
	body, _, err := c.get(ctx, fmt.Sprintf("/feed/segment/%d?epoch=%d", number, epoch), "", feed.MaxSealed, 0)
	if err != nil {
		return feed.Sealed{}, err
	}
	return feed.ParseSealed(body)
}

// NewestSnapshot fetches the manifest of the newest snapshot.
func (c *Client) NewestSnapshot(ctx context.Context, epoch int64) ([]byte, error) {
	body, _, err := c.get(ctx, fmt.Sprintf("/feed/snapshot?epoch=%d", epoch), "", feed.MaxManifest, 0)
	return body, err
}

// Chunk fetches chunk i of the snapshot of a position; tag is its signed manifest's (Tag).
func (c *Client) Chunk(ctx context.Context, epoch, position int64, tag string, i int) ([]byte, error) {
	body, _, err := c.get(ctx, fmt.Sprintf("/feed/snapshot/%d/%s/%d?epoch=%d", position, tag, i, epoch), "", feed.MaxChunk, 0)
	return body, err
}

// Ask asks for one serial of the issuer with that key and returns a signed Answer. It returns
// db.ErrNotFound if the source answers no such questions.
func (c *Client) Ask(ctx context.Context, issuer [32]byte, serial db.Serial) ([]byte, error) {
	body, _, err := c.get(ctx, "/feed/ask?issuer="+hex.EncodeToString(issuer[:])+"&serial="+serial.String(), "", feed.MaxNote, 0)
	return body, err
}

// Clock fetches the source's clock, in microseconds. It returns db.ErrNotFound if the source
// does not show its clock.
func (c *Client) Clock(ctx context.Context) (time.Time, error) {
	body, _, err := c.get(ctx, "/feed/clock", "", len(feed.StampForm)+1, 0)
	if err != nil {
		return time.Time{}, err
	}
	clock, err := feed.ParseClock(string(body))
	if err != nil {
		return time.Time{}, fmt.Errorf("asking %s for its clock: %w", c, ErrSource)
	}
	return clock, nil
}

// get fetches at most limit octets, not slower than the slowest pace. With a tag it returns nil
// if nothing is new.
func (c *Client) get(ctx context.Context, path, tag string, limit int, wait time.Duration) (body []byte, next string, err error) {
	return c.do(ctx, http.MethodGet, path, tag, nil, limit, wait)
}

// do sends a request, with send as body if not nil, and returns the answer.
func (c *Client) do(ctx context.Context, method, path, tag string, send []byte, limit int, wait time.Duration) (body []byte, next string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(wait+c.cfg.Stall, func() { cancel(ErrSlow) })
	defer watch.Stop()
	var met atomic.Bool // TLS was established with the pinned key
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) { met.Store(err == nil) },
	})
	request, err := http.NewRequestWithContext(traced, method, c.base+path, bytes.NewReader(send))
	if err != nil {
		return nil, "", fmt.Errorf("asking %s for %s: %w", c, path, err)
	}
	request.Header.Set("User-Agent", feed.UserAgent+strconv.Itoa(feed.Form)) // the pin identifies this site
	if tag != "" {
		request.Header.Set("If-None-Match", tag)
	}
	response, err := c.http.Do(request)
	if err == nil {
		c.answered.Store(true)
		body, err = read(response, limit, watch, c.cfg.Stall)
	} else {
		err = c.unlisted(ctx, err, met.Load())
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		return nil, "", fmt.Errorf("asking %s for %s: %w", c, path, err)
	}
	return body, response.Header.Get("ETag"), nil
}

// unlisted says when a source closed the connection because it does not know this side's key,
// with the fix. The TLS alert may be lost when the connection ends. So if a handshake succeeded
// and the source has never answered, unlisted connects once more to read it.
func (c *Client) unlisted(ctx context.Context, err error, met bool) error {
	alert := err
	if met && !c.answered.Load() && !isAlert(err) {
		alert = c.listen(ctx)
	}
	if !isAlert(alert) {
		return err
	}
	return fmt.Errorf("%w: this side's key %s is not on its list (responder set --feed-pin at the master, feed.peers at a site): %w",
		ErrPin, c.cfg.Identity.Pin, alert)
}

func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// listen connects and sends nothing, so that the alert is not lost.
func (c *Client) listen(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{Config: c.cfg.Identity.ClientTLS(c.cfg.Pin)}).DialContext(ctx, "tcp", strings.TrimPrefix(c.base, "https://"))
	if err != nil {
		return err
	}
	defer conn.Close()
	if until, bounded := ctx.Deadline(); bounded {
		_ = conn.SetReadDeadline(until)
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

func read(response *http.Response, limit int, watch *time.Timer, stall time.Duration) ([]byte, error) {
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotModified:
		return nil, nil
	case http.StatusNotFound:
		return nil, db.ErrNotFound
	case http.StatusForbidden:
		return nil, refusal(response.Body)
	default:
		return nil, fmt.Errorf("%w: status %d", ErrSource, response.StatusCode)
	}
	if response.ContentLength > int64(limit) {
		return nil, fmt.Errorf("%w: %d octets, at most %d are of use", ErrEndless, response.ContentLength, limit)
	}
	began := time.Now()
	pace := paced{response.Body, func(n int) {
		watch.Reset(max(0, stall+time.Duration(n)*time.Second/slowest-time.Since(began)))
	}, 0}
	watch.Reset(stall)
	body, err := io.ReadAll(io.LimitReader(&pace, int64(limit)+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > limit:
		return nil, fmt.Errorf("%w: more than %d octets", ErrEndless, limit)
	case len(body) == 0:
		return nil, fmt.Errorf("%w: an empty answer", ErrSource)
	}
	return body, nil
}

// refusal returns the error for a refusal by the source.
func refusal(body io.Reader) error {
	text, _ := io.ReadAll(io.LimitReader(body, 64)) // unreadable text counts as empty
	switch state := db.ResponderState(strings.TrimSpace(string(text))); state {
	case db.ResponderSuspended, db.ResponderRevoked, db.ResponderLeft:
		return fmt.Errorf("%w: it is %s", ErrAccessDenied, state)
	}
	return fmt.Errorf("%w: this site's key is not on its list", ErrPin)
}

// paced reports the octets that arrived.
type paced struct {
	from io.Reader
	came func(total int)
	n    int
}

func (p *paced) Read(b []byte) (int, error) {
	n, err := p.from.Read(b)
	if p.n += n; n > 0 {
		p.came(p.n)
	}
	return n, err
}
