package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// How long a stop waits before it becomes harder: a fast shutdown writes a
// checkpoint (seconds on a slow disk), an immediate one only ends processes.
const (
	fastStop      = 30 * time.Second
	immediateStop = 10 * time.Second
	poll          = 5 * time.Millisecond
)

// Restart stops the server if it runs and starts it again on the same port; it
// brings back a killed one too (PostgreSQL then recovers from its log).
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	bin, err := Find()
	if err != nil {
		return err
	}
	if err := portFree(s.Port); err != nil {
		return fmt.Errorf("restarting PostgreSQL in %s: %w", s.Dir, err)
	}
	if err := s.launch(ctx, bin); err != nil {
		return fmt.Errorf("restarting PostgreSQL in %s: %w", s.Dir, err)
	}
	return nil
}

// launch starts the postmaster in a session of its own, with its output in the
// log, and waits until it is ready or has ended.
func (s *Server) launch(ctx context.Context, bin string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner, err := runAs()
	if err != nil {
		return err
	}
	if err := errors.Join(clearLock(s.dataDir()), s.writeSettings(), s.writeState()); err != nil {
		return err
	}
	log, err := os.OpenFile(s.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	defer log.Close()
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	cmd := exec.Command(filepath.Join(bin, "postgres"), "-D", s.dataDir())
	cmd.Dir, cmd.Env = s.dataDir(), environment()
	cmd.Stdout, cmd.Stderr = log, log // never the caller's: its reader would wait for us
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner, Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("running postgres: %w", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended stands in the log; we only reap it
		close(exited)
		runtime.KeepAlive(s) // the keeper's pipe must not be collected while the server runs
	}()
	s.pid = cmd.Process.Pid
	if err := s.awaitReady(ctx, exited); err != nil {
		s.pid = 0
		_ = cmd.Process.Signal(syscall.SIGQUIT) // already gone is as good
		<-exited
		return s.explain(err, from)
	}
	return nil
}

// awaitReady reads postmaster.pid, as pg_ctl does: its eighth line turns to
// "ready" when connections are accepted.
func (s *Server) awaitReady(ctx context.Context, exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		lines := pidFile(s.dataDir())
		if len(lines) > 7 && lines[0] == strconv.Itoa(s.pid) && strings.TrimSpace(lines[7]) == "ready" {
			return nil
		}
		select {
		case <-exited:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("waiting until it is ready: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// explain adds what the server said since offset from.
func (s *Server) explain(err error, from int64) error {
	text, readErr := os.ReadFile(s.LogFile())
	if readErr != nil || int64(len(text)) <= from {
		return err
	}
	said := text[from:]
	if bytes.Contains(said, []byte("Address already in use")) {
		return fmt.Errorf("port %d on 127.0.0.1: %w: stop what listens there or choose another port", s.Port, errPortTaken)
	}
	return fmt.Errorf("%w; its log ends:\n%s", err, tail(said, 10))
}

// Stop ends the server in order (fast shutdown), harder when it does not follow.
// A server that is not running is no error.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, fastStop}, {syscall.SIGQUIT, immediateStop}} {
		if !s.signal(step.signal) || s.awaitEnd(step.wait) {
			return nil
		}
	}
	return s.kill()
}

// Kill ends the postmaster and its children by SIGKILL, as a crash would: no
// checkpoint, no goodbye to the clients. Restart recovers.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kill()
}

func (s *Server) kill() error {
	// Stopped first, so that it starts no child after we have counted them.
	if !s.signal(syscall.SIGSTOP) {
		return nil
	}
	family := append(children(s.pid), s.pid)
	for _, pid := range family {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("killing process %d of PostgreSQL in %s: %w", pid, s.Dir, err)
		}
	}
	// A child left alive would hold the shared memory and refuse a restart.
	gone := func(pid int) bool { return !alive(pid) }
	for deadline := time.Now().Add(immediateStop); ; time.Sleep(poll) {
		if family = slices.DeleteFunc(family, gone); len(family) == 0 {
			s.pid = 0
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("killing PostgreSQL in %s: processes %v do not end", s.Dir, family)
		}
	}
}

// Destroy stops the server and removes its folder if Start made it.
func (s *Server) Destroy() error {
	err := s.Stop()
	s.releaseKeeper()
	if s.temporary {
		err = errors.Join(err, os.RemoveAll(s.Dir))
	}
	return err
}

// signal sends sig to the postmaster; false when there is none any more.
func (s *Server) signal(sig syscall.Signal) bool {
	if s.pid == 0 || !isPostmaster(s.pid, s.dataDir()) {
		s.pid = 0
		return false
	}
	if err := syscall.Kill(s.pid, sig); errors.Is(err, syscall.ESRCH) {
		s.pid = 0
		return false
	}
	return true
}

// awaitEnd polls for the postmaster's end: it need not be our child.
func (s *Server) awaitEnd(limit time.Duration) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(poll) {
		if !alive(s.pid) {
			s.pid = 0
			return true
		}
	}
	return false
}

// runningPID returns the pid of the postmaster that works on data, or 0.
func runningPID(data string) int {
	lines := pidFile(data)
	if len(lines) == 0 {
		return 0
	}
	pid, err := strconv.Atoi(lines[0])
	if err != nil || pid <= 1 || !isPostmaster(pid, data) {
		return 0 // left by a crash; the number may be anybody's by now
	}
	return pid
}

// clearLock removes the lock file of a postmaster that is dead, once nothing works
// on the folder any more. PostgreSQL would refuse to start for ever where the dead
// one stays a zombie (the first process of a container may reap nobody) or where
// its number is another's by now. What a crash left of its children ends by itself.
func clearLock(data string) error {
	for deadline := time.Now().Add(immediateStop); worked(data); time.Sleep(poll) {
		if time.Now().After(deadline) {
			return nil // PostgreSQL says best what is in its way
		}
	}
	if err := os.Remove(filepath.Join(data, "postmaster.pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the lock file of a dead server: %w", err)
	}
	return nil
}

// worked says whether any process of PostgreSQL works on data: all of them have
// it as their working directory.
func worked(data string) bool {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return true
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		pid, err := strconv.Atoi(e.Name())
		return err == nil && isPostmaster(pid, data)
	})
}

func pidFile(data string) []string {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return nil
	}
	return strings.Split(string(text), "\n")
}

// isPostmaster knows the postmaster by its working directory, the data folder.
func isPostmaster(pid int, data string) bool {
	real, err := filepath.EvalSymlinks(data)
	if err != nil {
		return false
	}
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil && cwd == real && alive(pid)
}

// alive says whether pid exists and is no zombie.
func alive(pid int) bool {
	state, _ := procStat(pid)
	return state != 0 && state != 'Z' && state != 'X'
}

// children returns the processes whose parent is pid. PostgreSQL gives each of
// them a session of its own, so that no process group holds them together.
func children(pid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, e := range entries {
		if child, err := strconv.Atoi(e.Name()); err == nil {
			if _, parent := procStat(child); parent == pid {
				found = append(found, child)
			}
		}
	}
	return found
}

// procStat returns state and parent of pid; 0, 0 when there is none.
func procStat(pid int) (state byte, parent int) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	// The name, in parentheses, may itself hold blanks and parentheses.
	fields := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
	if len(fields) < 2 {
		return 0, 0
	}
	parent, err = strconv.Atoi(string(fields[1]))
	if err != nil {
		return 0, 0
	}
	return fields[0][0], parent
}
