package integration

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// tool returns the path of a program that tests need beside those of make deps.
func tool(t *testing.T, name, debianPackage string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} { // not in every user's PATH
		if path := filepath.Join(dir, name); exec.Command("test", "-x", path).Run() == nil {
			return path
		}
	}
	t.Fatalf("%s is missing: apt-get install %s (or sh .ci/deps test)", name, debianPackage)
	return ""
}

// says runs a program to its end, at most 60 s, and returns what it printed and
// its exit status.
func says(t *testing.T, program string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC", "http_proxy=", "HTTP_PROXY=", "https_proxy=", "HTTPS_PROXY=")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// said is says for what must succeed.
func said(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, code := says(t, program, args...)
	if code != 0 {
		t.Fatalf("%s %s: exit status %d:\n%s", program, strings.Join(args, " "), code, out)
	}
	return out
}

// serve starts a server that stays in the foreground, waits until it listens on
// all addresses, and ends it with the test, or with the test process.
func serve(t *testing.T, addresses []string, program string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // by a signal
		close(ended)
	}()
	t.Cleanup(func() {
		<-ended
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(program), out.String())
		}
	})
	for _, address := range addresses {
		for limit := time.Now().Add(20 * time.Second); ; {
			network := "tcp"
			if strings.HasPrefix(address, "/") {
				network = "unix"
			}
			conn, err := net.Dial(network, address)
			if err == nil {
				conn.Close()
				break
			}
			select {
			case <-ended:
				t.Fatalf("%s ended at once", cmd)
			case <-time.After(20 * time.Millisecond):
			}
			if time.Now().After(limit) {
				t.Fatalf("%s does not listen on %s", program, address)
			}
		}
	}
}

// handedOut are the addresses of freeAddress: the kernel gives a port again that
// was let go of, which of 30 out of 14,000 is no rare thing.
var handedOut sync.Map

// freeAddress returns an address of 127.0.0.1 where nothing listens now, and which
// no other test of this process has. A server of ours listens on port 0 itself.
func freeAddress(t *testing.T) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		l.Close()
		if _, taken := handedOut.LoadOrStore(address, true); !taken {
			return address
		}
	}
}

// put writes a file of a test and returns its name.
func put(t *testing.T, name, content string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// contents reads files one after the other.
func contents(t *testing.T, names ...string) string {
	t.Helper()
	var all strings.Builder
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(raw)
	}
	return all.String()
}
