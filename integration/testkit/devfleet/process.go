package devfleet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// spawn starts a daemon that outlives us: a session of its own, and nothing of
// our standard streams, since whoever reads those through a pipe waits for the
// last process that holds it.
func (o *Options) spawn(p part) error {
	if pid := p.pid(); pid != 0 {
		return fmt.Errorf("it runs already, pid %d", pid)
	}
	log, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening its log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(o.Bin, p.program()), "--config", p.config)
	cmd.Dir, cmd.Env = "/", environment()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("running %s: %w", p.program(), err)
	}
	go func() { _ = cmd.Wait() }() // how it ends stands in its log; we only reap it
	return nil
}

// process is a running daemon of ours.
type process struct {
	pid    int
	config string // absolute
}

// daemons returns the running ocspd and ocspsyncd whose configuration file is
// wanted, whoever started them: we know them by their command lines alone, so
// that a fleet is found again when all its notes are lost.
func daemons(wanted func(config string) bool) []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if config := daemonConfig(pid); config != "" && wanted(config) {
			found = append(found, process{pid, config})
		}
	}
	return found
}

// daemonConfig returns the configuration file of the daemon that pid is, "" when
// it is none, or has ended and only waits to be reaped.
func daemonConfig(pid int) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // empty for a zombie
	if err != nil {
		return ""
	}
	args := strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00")
	program := filepath.Base(args[0])
	if program != "ocspd" && program != "ocspsyncd" {
		return ""
	}
	for i, arg := range args[1:] {
		name, value, joined := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if name != "config" || !strings.HasPrefix(arg, "-") {
			continue
		}
		if !joined {
			if i+2 >= len(args) {
				return ""
			}
			value = args[i+2]
		}
		if !filepath.IsAbs(value) {
			cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
			if err != nil {
				return ""
			}
			value = filepath.Join(cwd, value)
		}
		return filepath.Clean(value)
	}
	return ""
}

// stopDaemons ends processes in order, by force when they do not follow within
// the grace. Before each signal it looks again who the process is, since the
// number may have become another's.
func stopDaemons(running []process, grace time.Duration) error {
	remaining := func() (left []process) {
		for _, p := range running {
			if daemonConfig(p.pid) == p.config {
				left = append(left, p)
			}
		}
		return left
	}
	for _, step := range []struct {
		signals []syscall.Signal
		wait    time.Duration
	}{
		{[]syscall.Signal{syscall.SIGTERM, syscall.SIGCONT}, grace}, // a stopped one must wake up to end
		{[]syscall.Signal{syscall.SIGKILL}, 10 * time.Second},
	} {
		for _, p := range remaining() {
			for _, signal := range step.signals {
				_ = syscall.Kill(p.pid, signal) // gone already is as good; remaining tells
			}
		}
		for deadline := time.Now().Add(step.wait); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if len(remaining()) == 0 {
				return nil
			}
		}
	}
	if left := remaining(); len(left) > 0 {
		return fmt.Errorf("killing process %d (configuration %s): it does not end", left[0].pid, left[0].config)
	}
	return nil
}
