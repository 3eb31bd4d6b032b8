package devfleet

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestClaimRefusesAFolderThatHoldsSomethingElse(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	precious := filepath.Join(o.Dir, "ca", "key.pem")
	if err := os.MkdirAll(filepath.Dir(precious), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := o.claim(t.Context()); err == nil || !strings.Contains(err.Error(), "not by our doing") {
		t.Errorf("want a refusal, got %v", err)
	}
	if err := Down(t.Context(), o.Dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("what was there before is gone: %v", err)
	}
	if err := o.settle(); err != nil {
		t.Fatal(err)
	}
	if err := o.remember(false); err != nil { // now it is a fleet's
		t.Fatal(err)
	}
	if err := Down(t.Context(), o.Dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(precious); err == nil {
		t.Error("a fleet's own CA was left behind")
	}
}

func TestOneAtATimeWorksOnAFolder(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Down(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "another ocspfleet works on") {
		t.Errorf("want a refusal, got %v", err)
	}
	unlock()
	if err := Down(t.Context(), dir); err != nil {
		t.Error(err)
	}
}

// pretend starts a shell that looks in /proc/PID/cmdline like the program args[0]
// with the other arguments, and that ignores SIGTERM.
func pretend(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: shell, Args: append([]string{args[0], "-c", "trap '' TERM; echo up; read _"}, args[1:]...), Dir: dir}
	// It waits for a line that never comes. A child of it would look like another one.
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); close(gone) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-gone })
	if _, err := out.Read(make([]byte, 3)); err != nil { // the trap is set
		t.Fatal(err)
	}
	return cmd
}

func TestOnlyDaemonsOfThisFolderAreStopped(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]*exec.Cmd{
		"absolute": pretend(t, "/", "/x/bin/ocspd", "--config", dir+"/site-a/etc/ocspd.yaml"),
		"relative": pretend(t, dir, "ocspsyncd", "--log", "x", "--config=site-a/etc/../etc/ocspsyncd.yaml"),
		"one dash": pretend(t, dir, "ocspsyncd", "-config", "master/etc/ocspsyncd.yaml"),
	}
	others := map[string]*exec.Cmd{
		"another program":       pretend(t, "/", "vi", "--config", dir+"/site-a/etc/ocspd.yaml"),
		"another folder":        pretend(t, "/", "ocspd", "--config", dir+"x/site-a/etc/ocspd.yaml"),
		"a fleet within":        pretend(t, "/", "ocspd", "--config", dir+"/demo/site-a/etc/ocspd.yaml"),
		"no configuration":      pretend(t, dir, "ocspd", "--config"),
		"not its configuration": pretend(t, dir, "ocspd", dir+"/site-a/etc/ocspd.yaml"),
	}
	if found := daemonsOf(dir); len(found) != len(ours) {
		t.Errorf("found %v, want %d", found, len(ours))
	}
	// They ignore SIGTERM, one is stopped: SIGKILL must follow.
	if err := ours["absolute"].Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := stopDaemons(daemonsOf(dir), 200*time.Millisecond); err != nil {
		t.Error(err)
	}
	for name, cmd := range ours {
		if daemonConfig(cmd.Process.Pid) != "" {
			t.Errorf("%s: still there", name)
		}
	}
	for name, cmd := range others {
		if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
			t.Errorf("%s: was ended: %v", name, err)
		}
	}
}

func TestPortPlanHasNoPortTwice(t *testing.T) {
	seen := map[int]bool{}
	for _, port := range Ports(18000).all(maxSites) {
		if seen[port] || port < 18000 || port >= 18300 {
			t.Errorf("port %d is planned twice, or outside of 300 ports", port)
		}
		seen[port] = true
	}
	if len(seen) != 3+5*maxSites {
		t.Errorf("%d ports", len(seen))
	}
}

func TestFolderOfDatabasesOfSomebodyElseIsRefused(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if err := ownFolder(link); err == nil || !strings.Contains(err.Error(), "not a folder of ours") {
		t.Errorf("want a refusal, got %v", err)
	}
	if err := ownFolder(t.TempDir()); err != nil {
		t.Error(err)
	}
}
