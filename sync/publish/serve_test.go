package publish_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/publish"
)

func newIdentity(tb testing.TB) *feedhttp.Identity {
	tb.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	id, err := feedhttp.NewIdentity(private)
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

// listen serves h over TLS until the test ends.
func listen(tb testing.TB, server *http.Server, config *tls.Config) (url string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	server.TLSConfig = config
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			tb.Error(err)
		}
	}()
	tb.Cleanup(func() { _ = server.Close(); <-done })
	return "https://" + l.Addr().String()
}

// served is a master that serves its feed to one site.
type served struct {
	*master
	url          string
	server, site *feedhttp.Identity
	access       *feedhttp.AccessList
	client       *feedhttp.Client
}

func newServed(tb testing.TB) *served {
	tb.Helper()
	s := &served{master: newMaster(tb), server: newIdentity(tb), site: newIdentity(tb), access: &feedhttp.AccessList{}}
	note, err := s.keys.Sign(feedtest.KeyOf(tb, "root"))
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.store.KeepFeedKeys(tb.Context(), 1, note); err != nil {
		tb.Fatal(err)
	}
	s.access.Set(map[feedhttp.Pin]string{s.site.Pin: "site-a"})
	handler := feedhttp.NewServer(feedhttp.ServerConfig{Store: s.sealer.DB, Latest: s.latest, Access: s.access, Log: slog.New(slog.DiscardHandler)})
	s.url = listen(tb, handler.HTTP(), s.server.ServerTLS(s.access))
	s.client = s.clientAs(tb, s.site)
	return s
}

func (s *served) clientAs(tb testing.TB, id *feedhttp.Identity) *feedhttp.Client {
	tb.Helper()
	c, err := feedhttp.NewClient(feedhttp.ClientConfig{URL: s.url, Pin: s.server.Pin, Identity: id, Stall: 5 * time.Second})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

// All that a new site needs comes over the line as it was signed.
func TestSiteFetchesTheWholeFeed(t *testing.T) {
	t.Parallel()
	s := newServed(t)
	if _, _, err := s.client.Checkpoint(t.Context(), 0, "", 0); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("before the first seal: %v", err)
	}
	s.seals(t, func(c *publish.SealerConfig) { c.Wait = time.Millisecond })
	s.archives(t, func(*publish.SnapshotterConfig) {})
	serial := s.issue(t, 1)
	if _, _, err := s.store.Master.Revoke(t.Context(), 1, serial, db.ReasonKeyCompromise, time.Time{}, act); err != nil {
		t.Fatal(err)
	}
	s.await(t, s.position(t))
	s.snapshot(t, 0)

	set, err := s.client.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := feed.OpenKeySet(set, origin, feedtest.RootOf(t))
	if err != nil {
		t.Fatal(err)
	}
	note, _, err := s.client.Checkpoint(t.Context(), 0, "", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c, err := keys.OpenCheckpoint(note)
	if err != nil || c.Position != s.position(t) {
		t.Fatalf("the checkpoint is %+v, %v", c, err)
	}
	for n := int64(1); n <= c.Number; n++ {
		sealed, err := s.client.Segment(t.Context(), c.Epoch, n)
		if err != nil {
			t.Fatal(err)
		}
		if _, segment, err := keys.Open(sealed); err != nil || segment.Number != n {
			t.Errorf("segment %d is %+v, %v", n, segment, err)
		}
	}
	if _, err := s.client.Segment(t.Context(), c.Epoch, c.Number+1); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("a segment to come: %v", err)
	}
	manifest, err := s.client.NewestSnapshot(t.Context(), c.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := keys.OpenSnapshot(manifest)
	if err != nil {
		t.Fatal(err)
	}
	for i := range snapshot.Chunks {
		chunk, err := s.client.Chunk(t.Context(), c.Epoch, snapshot.Position, feedhttp.Tag(manifest), i)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := snapshot.OpenChunk(i, chunk); err != nil {
			t.Error(err)
		}
	}
}

func TestLongPollEndsWithNewsOrInTime(t *testing.T) {
	t.Parallel()
	s := newServed(t)
	s.seals(t, func(c *publish.SealerConfig) { c.Confirm = time.Hour })
	s.await(t, s.position(t))
	_, tag, err := s.client.Checkpoint(t.Context(), 0, "", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	note, _, err := s.client.Checkpoint(t.Context(), s.position(t), tag, 300*time.Millisecond)
	if took := time.Since(began); err != nil || note != nil || took < 300*time.Millisecond || took > time.Minute {
		t.Errorf("a poll without news ended after %v with %q, %v", took, note, err)
	}
	serial := s.issue(t, 1)
	s.await(t, s.position(t))
	after := s.position(t)
	type answer struct {
		note []byte
		at   time.Time
		err  error
	}
	came := make(chan answer, 1)
	go func() {
		note, _, err := s.client.Checkpoint(context.WithoutCancel(t.Context()), after, "", time.Minute)
		came <- answer{note, time.Now(), err}
	}()
	time.Sleep(100 * time.Millisecond)
	began = time.Now()
	if _, _, err := s.store.Master.Revoke(t.Context(), 1, serial, db.ReasonSuperseded, time.Time{}, act); err != nil {
		t.Fatal(err)
	}
	got := <-came
	if c, err := s.keys.OpenCheckpoint(got.note); got.err != nil || err != nil || c.Position <= after || got.at.Sub(began) > 50*time.Second {
		t.Errorf("news came after %v: %+v, %v", got.at.Sub(began), c, errors.Join(err, got.err))
	}
}

// Neither side talks to a key that it does not know, and a client that was taken
// off the list gets nothing more, on its open connection and in a running poll.
func TestPinsAreCheckedOnBothSidesAndEachTime(t *testing.T) {
	t.Parallel()
	s := newServed(t)
	s.seals(t, func(*publish.SealerConfig) {})
	s.await(t, s.position(t))
	if _, err := s.clientAs(t, newIdentity(t)).Keys(t.Context()); err == nil {
		t.Error("a stranger was served")
	}
	wrong, err := feedhttp.NewClient(feedhttp.ClientConfig{URL: s.url, Pin: feedhttp.Pin{1}, Identity: s.site})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wrong.Keys(t.Context()); !errors.Is(err, feedhttp.ErrPin) {
		t.Errorf("a stranger was asked: %v", err)
	}
	for name, config := range map[string]*tls.Config{
		"no certificate": {InsecureSkipVerify: true, MinVersion: tls.VersionTLS13},
		"TLS 1.2":        {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12},
	} {
		plain := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
		if response, err := plain.Get(s.url + "/feed/keys"); err == nil {
			response.Body.Close()
			t.Errorf("%s: was answered with %s", name, response.Status)
		}
	}
	if _, err := s.client.Keys(t.Context()); err != nil {
		t.Fatal(err)
	}
	came := make(chan error, 1)
	go func() {
		_, _, err := s.client.Checkpoint(context.WithoutCancel(t.Context()), s.latest.Newest().Position, "", 500*time.Millisecond)
		came <- err
	}()
	time.Sleep(100 * time.Millisecond)
	s.access.Set(nil)
	if err := <-came; !errors.Is(err, feedhttp.ErrPin) || errors.Is(err, feedhttp.ErrAccessDenied) {
		t.Errorf("a running poll of a site that was taken off ended with %v", err)
	}
	if _, err := s.client.Keys(t.Context()); !errors.Is(err, feedhttp.ErrPin) {
		t.Errorf("a site that was taken off was answered on its open connection: %v", err)
	}
}

func TestAClientCannotTakeAllPlaces(t *testing.T) {
	t.Parallel()
	s := newServed(t)
	s.seals(t, func(c *publish.SealerConfig) { c.Confirm = time.Hour })
	s.await(t, s.position(t))
	position := s.position(t)
	results := make(chan error, 20)
	for range 20 {
		go func() {
			_, _, err := s.client.Checkpoint(context.WithoutCancel(t.Context()), position, "", time.Minute)
			results <- err
		}()
	}
	for n := range 12 { // the polls stand, so that these can only be the refused ones
		if err := <-results; !errors.Is(err, feedhttp.ErrSource) {
			t.Fatalf("answer %d of 20 polls at once: %v, want a refusal", n+1, err)
		}
	}
	s.issue(t, 1)
	for range 8 {
		if err := <-results; err != nil {
			t.Errorf("a poll that was admitted: %v", err)
		}
	}
	if _, err := s.client.Keys(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Endless, oversized, dripping, silent and redirecting sources are left, in time.
func TestClientBoundsWhatASourceSends(t *testing.T) {
	t.Parallel()
	server, site := newIdentity(t), newIdentity(t)
	access := &feedhttp.AccessList{}
	access.Set(map[feedhttp.Pin]string{site.Pin: "site-a"})
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	answers := map[string]http.HandlerFunc{
		"endless": func(w http.ResponseWriter, r *http.Request) {
			zeros := make([]byte, 64<<10)
			for r.Context().Err() == nil {
				if _, err := w.Write(zeros); err != nil {
					return
				}
			}
		},
		"announced too large": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "10000000") },
		"dripping": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte{'x'}); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		},
		"silent": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		},
		"redirecting": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"broken":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"empty":       func(http.ResponseWriter, *http.Request) {},
	}
	for name, answer := range answers {
		url := listen(t, &http.Server{Handler: answer, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}, server.ServerTLS(access))
		client, err := feedhttp.NewClient(feedhttp.ClientConfig{URL: url, Pin: server.Pin, Identity: site, Stall: 500 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := client.Keys(t.Context()); !errors.Is(err, feedhttp.ErrSource) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%s: left after %v", name, took)
		}
		client.Close()
	}
	for _, bad := range []string{"http://a", "https://", "https://a/path", "https://u@a", "a:1", "https://a?q"} {
		if _, err := feedhttp.NewClient(feedhttp.ClientConfig{URL: bad, Identity: site}); err == nil {
			t.Errorf("source %q was admitted", bad)
		}
	}
	if _, err := feedhttp.ParsePin(site.Pin.String()); err != nil {
		t.Error(err)
	}
	if p, err := feedhttp.ParsePin("abc"); err == nil || !bytes.Equal(p[:], make([]byte, 32)) {
		t.Error("half a pin was read")
	}
}
