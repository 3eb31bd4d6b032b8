package pull_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ocspfleet/sync/feedhttp"
)

// A plain nginx spreads a public feed: two sites that know nothing else have the
// snapshot and each segment, the source gave each file once.
func TestFeedThroughNginx(t *testing.T) {
	if testing.Short() {
		t.Skip("asks foreign programs")
	}
	t.Parallel()
	m, proxy := newMaster(t), private(t)
	for n := range 50 {
		m.issue(t, n)
	}
	cache, err := feedhttp.NewIdentity(proxy)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	gave := map[string]int{}
	counts := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/feed/segment/") || strings.HasPrefix(r.URL.Path, "/feed/snapshot/") {
				mu.Lock()
				gave[r.URL.String()]++
				mu.Unlock()
			}
			h.ServeHTTP(w, r)
		})
	}
	source := servePublic(t, m, cache, counts)
	address := nginx(t, proxy, source)
	for range 3 {
		s := newSite(t)
		client, err := feedhttp.NewClient(feedhttp.ClientConfig{URL: "https://" + address, Pin: cache.Pin, Identity: s.id})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		s.pulls(t, m, nil, client)
		s.equals(t, m)
		m.issue(t, 100+len(gave))
		s.equals(t, m)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(gave) == 0 {
		t.Error("the source gave no file")
	}
	for file, times := range gave {
		if times > 1 {
			t.Errorf("the source gave %s %d times", file, times)
		}
	}
}

// servePublic serves the master's feed for caches, and returns its address.
func servePublic(t *testing.T, m *master, caller *feedhttp.Identity, wrap func(http.Handler) http.Handler) (address string) {
	t.Helper()
	access, id := &feedhttp.AccessList{}, identity(t)
	access.Set(map[feedhttp.Pin]string{caller.Pin: "cache"})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := feedhttp.NewServer(feedhttp.ServerConfig{Store: m.store.DB, Latest: m.latest, Access: access, Public: true, Log: quiet}).HTTP()
	server.Handler, server.TLSConfig = wrap(server.Handler), id.ServerTLS(access)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return l.Addr().String()
}

// nginx starts the documented sample in front of a source, and returns its address.
func nginx(t *testing.T, key ed25519.PrivateKey, source string) (address string) {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		if program = "/usr/sbin/nginx"; exec.Command("test", "-x", program).Run() != nil {
			t.Fatal("nginx is missing: apt-get install nginx (or sh .ci/deps test)")
		}
	}
	dir := t.TempDir()
	certify(t, dir, key)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	raw, err := os.ReadFile(filepath.Join("..", "..", "deploy", "nginx", "feed.conf"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for from, to := range map[string]string{
		"listen 9443 ssl;": "listen " + address + " ssl;", "master.example:9443": source,
		"/etc/ocspfleet": dir, "/var/cache/nginx/ocspfleet": filepath.Join(dir, "cache"),
	} {
		if !strings.Contains(text, from) {
			t.Fatalf("the sample has no %q any more", from)
		}
		text = strings.ReplaceAll(text, from, to)
	}
	var temps strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temps.WriteString(kind + "_temp_path " + filepath.Join(dir, kind) + ";\n")
	}
	config := filepath.Join(dir, "nginx.conf")
	text = "daemon off; error_log " + filepath.Join(dir, "error.log") + "; pid " + filepath.Join(dir, "pid") + ";\nevents {}\nhttp {\n" + temps.String() + text + "}\n"
	if os.Geteuid() == 0 {
		text = "user root;\n" + text // the test's folder is its owner's alone
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, address, program, "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", config)
	return address
}

// certify writes the key and a certificate as the sample's comment makes them.
func certify(t *testing.T, dir string, key ed25519.PrivateKey) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "nginx-feed.key")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "openssl", "req", "-x509", "-key", file, "-subj", "/CN=feed", "-days", "36500",
		"-out", filepath.Join(dir, "nginx-feed.pem")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// run runs a server until the test ends; it returns when the address answers.
func run(t *testing.T, address, program string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { <-ended })
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s ended: %s", program, out.String())
		default:
		}
		if time.Now().After(limit) {
			t.Fatalf("%s does not listen: %s", program, out.String())
		}
	}
}
