package boot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ocspfleet/cmd/internal/boot"
)

// diary notes events in their order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (d *diary) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.lines)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := boot.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// get returns status and body; 0 and the error when there is no answer.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return 0, err.Error()
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not seen in 10 s: %s", what)
		}
	}
}

func TestStopInOrderBreaksNoRequest(t *testing.T) {
	var events diary
	entered, finish := make(chan struct{}), make(chan struct{})
	public, adminListener := listen(t), listen(t)
	ctx, wishStop := context.WithCancel(t.Context())
	plan := &boot.Plan{
		Log: slog.New(slog.DiscardHandler), DrainDelay: 300 * time.Millisecond,
		Admin: &boot.Admin{Metrics: boot.NewRegistry(), Level: new(slog.LevelVar)},
	}
	plan.ServeAdmin(adminListener)
	plan.AddServer("public", &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(entered)
			<-finish
		}
		if r.Context().Err() != nil {
			events.note("a request's context ended with the signal")
		}
		_, _ = io.WriteString(w, "answer")
	})}, public)
	plan.AddWorker("worker", func(ctx context.Context) error {
		<-ctx.Done()
		events.note("worker ends")
		return ctx.Err()
	})
	plan.AddCloser("first", func() error { events.note("first closed"); return nil })
	plan.AddCloser("second", func() error { events.note("second closed"); return nil })

	ended := make(chan error, 1)
	go func() { ended <- plan.Run(ctx) }()
	publicURL, readyURL := "http://"+public.Addr().String(), "http://"+adminListener.Addr().String()+"/readyz"
	if code, body := get(t, readyURL); code != http.StatusOK {
		t.Fatalf("before the stop: %d %s", code, body)
	}
	slow := make(chan string, 1)
	go func() {
		_, body := get(t, publicURL+"/slow")
		events.note("slow request answered")
		slow <- body
	}()
	<-entered
	wishStop()

	eventually(t, "/readyz 503", func() bool { code, _ := get(t, readyURL); return code == http.StatusServiceUnavailable })
	if code, body := get(t, publicURL); code != http.StatusOK || body != "answer" {
		t.Errorf("while draining: %d %s", code, body)
	}
	eventually(t, "new connections refused", func() bool { code, _ := get(t, publicURL); return code == 0 })
	if code, _ := get(t, readyURL); code != http.StatusServiceUnavailable {
		t.Errorf("admin gone before the last request was answered: %d", code)
	}
	if got := events.all(); got != nil {
		t.Errorf("something ended before the last request: %q", got)
	}
	close(finish)
	if body := <-slow; body != "answer" {
		t.Errorf("the request in flight got %q", body)
	}
	if err := <-ended; err != nil {
		t.Errorf("a wished stop returned %v", err)
	}
	got := slices.DeleteFunc(events.all(), func(s string) bool { return s == "slow request answered" }) // noted by the client, at any time
	if diff := cmp.Diff([]string{"worker ends", "second closed", "first closed"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestRequestBeyondGraceIsCut(t *testing.T) {
	public := listen(t)
	ctx, wishStop := context.WithCancel(t.Context())
	plan := &boot.Plan{Log: slog.New(slog.DiscardHandler), Grace: 50 * time.Millisecond}
	release := make(chan struct{})
	defer close(release)
	plan.AddServer("public", &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		wishStop()
		<-release
	})}, public)
	go get(t, "http://"+public.Addr().String())
	err := plan.Run(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "finishing the requests of public") {
		t.Errorf("got %v", err)
	}
}

func TestFailureStopsTheRest(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		run  func(context.Context) error
		want string
	}{
		"worker fails":         {func(context.Context) error { return broken }, "running bad: broken"},
		"worker ends too soon": {func(context.Context) error { return nil }, "running bad: it ended by itself"},
	} {
		t.Run(name, func(t *testing.T) {
			var events diary
			plan := &boot.Plan{Log: slog.New(slog.DiscardHandler)}
			plan.AddWorker("good", func(ctx context.Context) error {
				<-ctx.Done()
				events.note("good ends")
				return errors.New("no last words")
			})
			plan.AddWorker("bad", test.run)
			plan.AddCloser("store", func() error { events.note("store closed"); return broken })
			err := plan.Run(t.Context())
			want := test.want + "\nrunning good: no last words\nclosing store: broken"
			if err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if diff := cmp.Diff([]string{"good ends", "store closed"}, events.all()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if err := plan.Close(); err != nil {
				t.Errorf("closing again: %v", err)
			}
		})
	}
}

// While a daemon starts, /readyz says what it waits for, and asks nothing that is not
// there yet.
func TestReadyzTellsOfTheStart(t *testing.T) {
	plan := &boot.Plan{Log: slog.New(slog.DiscardHandler), Admin: &boot.Admin{Metrics: boot.NewRegistry(), Level: new(slog.LevelVar)}}
	l := listen(t)
	url := "http://" + l.Addr().String() + "/readyz"
	plan.Admin.Starting("starting")
	plan.ServeAdmin(l)
	plan.Admin.Starting("waiting for the database: it sleeps")
	if code, body := get(t, url); code != http.StatusServiceUnavailable || !strings.Contains(body, `["waiting for the database: it sleeps"]`) {
		t.Errorf("starting: %d %s", code, body)
	}
	plan.Admin.Ready = func(context.Context) []string { return nil }
	plan.Admin.Forks = func() []string { return []string{"a fork"} }
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- plan.Run(ctx) }()
	eventually(t, "/readyz 200", func() bool {
		code, body := get(t, url)
		return code == http.StatusOK && strings.Contains(body, `"forks":["a fork"]`)
	})
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}

	// A start that fails leaves no listener behind.
	failed := &boot.Plan{Log: slog.New(slog.DiscardHandler), Admin: &boot.Admin{Metrics: boot.NewRegistry(), Level: new(slog.LevelVar)}}
	if err := failed.StartAdmin(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if err := failed.Close(); err != nil {
		t.Error(err)
	}
}

func TestAdminEndpoints(t *testing.T) {
	level := new(slog.LevelVar)
	var reasons []string
	admin := &boot.Admin{
		Metrics: boot.NewRegistry(), Level: level,
		Ready: func(context.Context) []string { return reasons },
	}
	l := listen(t)
	plan := &boot.Plan{Log: slog.New(slog.DiscardHandler), Admin: admin}
	plan.ServeAdmin(l)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- plan.Run(ctx) }()
	url := "http://" + l.Addr().String()

	for path, want := range map[string]string{
		"/healthz": "ok", "/readyz": `"ready":true`, "/metrics": "go_goroutines", "/debug/loglevel": "INFO",
		"/debug/pprof/": "goroutine", "/debug/pprof/heap?debug=1": "heap profile", "/debug/pprof/cmdline": "boot.test",
	} {
		if code, body := get(t, url+path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d, no %q in %.200s", path, code, want, body)
		}
	}
	for body, want := range map[string]struct {
		code  int
		level slog.Level
	}{
		"debug\n": {http.StatusOK, slog.LevelDebug}, "loud": {http.StatusBadRequest, slog.LevelDebug},
		strings.Repeat("x", 100): {http.StatusBadRequest, slog.LevelDebug},
	} {
		level.Set(slog.LevelDebug)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/debug/loglevel", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want.code || level.Level() != want.level {
			t.Errorf("PUT %q: %d and level %v, want %d and %v", body, resp.StatusCode, level.Level(), want.code, want.level)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	// Run has ended: what it says now comes from Handler alone.
	if code, body := get(t, url); code != 0 {
		t.Errorf("the admin still answers: %d %s", code, body)
	}
}

func TestReadyzNamesItsReasons(t *testing.T) {
	l := listen(t)
	server := &http.Server{Handler: (&boot.Admin{
		Metrics: boot.NewRegistry(), Level: new(slog.LevelVar),
		Ready: func(context.Context) []string { return []string{"copy is 3h old", "token is gone"} },
	}).Handler()}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	code, body := get(t, "http://"+l.Addr().String()+"/readyz")
	if want := `{"ready":false,"reasons":["copy is 3h old","token is gone"]}` + "\n"; code != http.StatusServiceUnavailable || body != want {
		t.Errorf("%d %s, want 503 %s", code, body, want)
	}
}

func TestAdminStaysOnLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:0": true, "localhost:0": true, "0.0.0.0:0": false, ":0": false, "[::]:0": false, "192.0.2.1:0": false,
	} {
		l, err := boot.ListenAdmin(t.Context(), addr)
		if (err == nil) != want {
			t.Errorf("%s: %v", addr, err)
		}
		if err == nil {
			l.Close()
		}
	}
}

// DNS rebinding: a page of evil.example, whose name points to 127.0.0.1 by now, reaches
// the admin through the browser of whoever opens it here. It gets nothing.
func TestAdminAnswersForLoopbackAlone(t *testing.T) {
	handler := (&boot.Admin{Metrics: boot.NewRegistry(), Level: new(slog.LevelVar)}).Handler()
	for host, want := range map[string]int{
		"127.0.0.1:9080": 200, "127.0.0.1": 200, "127.9.9.9:9080": 200, "[::1]:9080": 200, "[::1]": 200, "localhost:9080": 200, "LOCALHOST": 200,
		"":                  200, // HTTP/1.0
		"evil.example:9080": 421, "evil.example": 421, "192.0.2.1:9080": 421, "0.0.0.0:9080": 421, "[::]:9080": 421, "[::ffff:192.0.2.1]:9080": 421,
		"127.0.0.1.evil.example": 421, "localhost.evil.example:9080": 421, "evil.localhost": 421, "127.0.0.1:9080:80": 421, ":9080": 200, "x\x00": 421,
	} {
		for _, path := range []string{"/healthz", "/readyz", "/metrics", "/debug/pprof/cmdline", "/debug/loglevel"} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = host
			w := httptest.NewRecorder()
			if handler.ServeHTTP(w, r); w.Code != want {
				t.Errorf("Host %q, %s: %d, want %d", host, path, w.Code, want)
			}
		}
	}
}

func TestListenSaysThatThePortIsTaken(t *testing.T) {
	l := listen(t)
	_, err := boot.Listen(t.Context(), l.Addr().String())
	want := "listening on " + l.Addr().String() + ": the port is already taken: stop what listens there or choose another port"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestLoggerWritesJSONInUTC(t *testing.T) {
	var out bytes.Buffer
	level := new(slog.LevelVar)
	log := boot.NewLogger(&out, false, level)
	log.Debug("not yet")
	log.Info("batch applied", slog.Int64("seq", 7))
	var line struct {
		Time time.Time
		Msg  string
		Seq  int64
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if line.Msg != "batch applied" || line.Seq != 7 || !strings.Contains(out.String(), `Z","level":"INFO"`) {
		t.Errorf("got %s", out.String())
	}
	level.Set(slog.LevelDebug)
	out.Reset()
	if log.Debug("now"); out.Len() == 0 {
		t.Error("the level did not change")
	}
}
