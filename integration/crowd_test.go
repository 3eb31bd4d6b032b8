package integration

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	neturl "net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// asker asks for one serial at a time over its own connection and holds every
// answer against the CertID that it asked for.
type asker struct {
	client   *http.Client
	url      string
	requests [][]byte
	ids      [][]byte
	expect   bool // Expect: 100-continue
}

func newAsker(t *testing.T, url string, serials []string, expect bool) *asker {
	t.Helper()
	f := shared(t)
	a := &asker{
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{ExpectContinueTimeout: 10 * time.Second, MaxIdleConnsPerHost: 1}},
		url:    url, expect: expect,
	}
	t.Cleanup(a.client.CloseIdleConnections)
	for _, serial := range serials {
		der, _, _ := request(t, f, f.Issuers[1], serial, crypto.SHA256)
		a.requests = append(a.requests, der)
		a.ids = append(a.ids, certIDOf(t, der))
	}
	return a
}

// round asks for everything once, by POST or, on odd turns, by GET. Who is told
// tryLater asks again, as clients do: a crowd may be more than the token signs
// within its deadline, and that answer is honest. What may never come is another's.
func (a *asker) round(ctx context.Context, turn int) error {
	for i := range a.requests {
		got, err := a.ask(ctx, i, (turn+i)%2 == 1)
		for tries := 0; err == nil && bytes.Equal(got, askAgain) && tries < 60; tries++ {
			time.Sleep(time.Duration(250+rand.IntN(500)) * time.Millisecond)
			got, err = a.ask(ctx, i, (turn+i)%2 == 1)
		}
		if err != nil {
			return err
		}
		if !bytes.Contains(got, a.ids[i]) {
			return fmt.Errorf("the CertID answered is not the one asked: %x", got[:min(16, len(got))])
		}
	}
	return nil
}

// askAgain is the whole OCSPResponse tryLater (RFC 6960 section 4.2.1).
var askAgain = []byte{0x30, 3, 0x0a, 1, 3}

// ask asks once and returns the OCSPResponse.
func (a *asker) ask(ctx context.Context, i int, get bool) ([]byte, error) {
	method, target, body := http.MethodPost, a.url+"/", io.Reader(bytes.NewReader(a.requests[i]))
	if get {
		method, target, body = http.MethodGet, a.url+"/"+neturl.PathEscape(base64.StdEncoding.EncodeToString(a.requests[i])), nil
	}
	r, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/ocsp-request")
		if a.expect {
			r.Header.Set("Expect", "100-continue")
		}
	}
	response, err := a.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %d", method, response.StatusCode)
	}
	return got, err
}

// A CDN once gave a valid answer for another certificate to POSTs with Expect:
// 100-continue (Let's Encrypt, 2019-08-20). 1,000 clients, each for serials of
// its own, GET and POST in turn on one connection: straight and through both fronts.
func TestThousandClientsWithExpectGetWhatTheyAsked(t *testing.T) {
	f := shared(t)
	site := f.Sites[0]
	serials := f.Issuers[1].Serials.Good
	for front, url := range map[string]string{
		"straight": site.URL, "nginx": "http://" + nginxFront(t, site, asItIs), "haproxy": "http://" + haproxyFront(t, site),
	} {
		t.Run(front, func(t *testing.T) {
			var crowd sync.WaitGroup
			var failed atomic.Int64
			start := make(chan struct{})
			for n := range 1000 {
				a := newAsker(t, url, []string{serials[n%len(serials)], fmt.Sprintf("%040x", 0x1000+n)}, true)
				crowd.Go(func() {
					<-start
					for turn := range 2 {
						if err := a.round(t.Context(), turn); err != nil && failed.Add(1) <= 5 {
							t.Errorf("client %d: %v", n, err)
						}
					}
				})
			}
			close(start)
			crowd.Wait()
			if n := failed.Load(); n > 0 {
				t.Errorf("%d of 1000 clients were not served", n)
			}
		})
	}
}

// dial opens connections that say no more than so much.
func dial(t *testing.T, n int, address, first string) []net.Conn {
	t.Helper()
	var all []net.Conn
	for range n {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, first); err != nil {
			t.Fatal(err)
		}
		all = append(all, conn)
	}
	return all
}

// 2,000 idle connections, 400 that drip their header and 400 that drip their
// body, and 500 clients at work: nobody of these fails or waits long, and the
// slow ones are cut at the timeouts.
func TestSlowAndIdleClientsDisturbNobody(t *testing.T) {
	f := shared(t)
	site := f.Sites[0]
	address := strings.TrimPrefix(site.URL, "http://")
	began := time.Now()
	dial(t, 2000, address, "")
	slow := dial(t, 400, address, "POST / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	slow = append(slow, dial(t, 400, address, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/ocsp-request\r\nContent-Length: 100\r\n\r\n0")...)
	dripping, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for dripping.Err() == nil {
			for _, conn := range slow {
				_, _ = conn.Write([]byte("0")) // it may be cut already
			}
			time.Sleep(300 * time.Millisecond)
		}
	}()

	serials := f.Issuers[1].Serials.Good
	var crowd sync.WaitGroup
	var mu sync.Mutex
	var took []time.Duration
	for n := range 500 {
		a := newAsker(t, site.URL, []string{serials[n%len(serials)]}, false)
		crowd.Go(func() {
			for turn := range 10 {
				asked := time.Now()
				if err := a.round(t.Context(), turn); err != nil {
					t.Errorf("client %d: %v", n, err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(asked))
				mu.Unlock()
			}
		})
	}
	crowd.Wait()
	slices.Sort(took)
	if len(took) == 0 {
		t.Fatal("nobody was served")
	}
	p99 := took[len(took)*99/100]
	t.Logf("%d answers, median %v, p99 %v, longest %v", len(took), took[len(took)/2], p99, took[len(took)-1])
	if p99 > 10*time.Second { // 500 at once on few shared cores: the queue is theirs
		t.Errorf("p99 is %v", p99)
	}
	// ReadHeaderTimeout is 5 s, ReadTimeout 10 s, counted from the first octet.
	limit := time.Now().Add(20 * time.Second)
	for i, conn := range slow {
		_ = conn.SetReadDeadline(limit)
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset by peer") {
			t.Fatalf("slow client %d is not cut after %v: %v", i, time.Since(began).Round(time.Second), err)
		}
	}
}
