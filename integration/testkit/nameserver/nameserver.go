// Package nameserver starts private knot and bind9 servers on 127.0.0.1, for tests of
// what talks to real ones.
//
// A server has a folder and a port of its own, the kernel's choice, needs no rights,
// and ends with the process that started it, however that ends. Its keys protect
// nothing.
package nameserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Kind is which server's program runs.
type Kind string

// The kinds: Debian's packages knot and bind9.
const (
	Knot Kind = "knot"
	Bind Kind = "bind9"
)

// Kinds are all of them.
func Kinds() []Kind { return []Kind{Knot, Bind} }

// Server is a running server.
type Server struct {
	Kind    Kind
	Dir     string // of its zone files and keys
	Address string // HOST:PORT, UDP and TCP

	process *exec.Cmd
	ended   chan struct{}
	keeper  *os.File // the pipe at whose end the keeper waits
}

// startPatience is how long a server may take until it listens; a tenth of a second
// is usual.
const startPatience = 30 * time.Second

// Folder makes a folder for a server, with a short name: knot's socket lies in it.
func Folder() (string, error) {
	dir, err := os.MkdirTemp("", "dns-")
	if err != nil {
		return "", fmt.Errorf("making a name server's folder: %w", err)
	}
	return dir, nil
}

// Start starts a server in a folder that Folder made, where its zone files lie. config
// is what a user would add to Debian's own configuration: keys, access, zones; a file
// is named without its folder. Ends with Stop.
func Start(ctx context.Context, kind Kind, dir, config string) (*Server, error) {
	var last error
	for range 5 { // between our look at a port and the server's somebody else may have taken it
		s := &Server{Kind: kind, Dir: dir}
		if last = s.start(ctx, config); last == nil {
			return s, nil
		}
		s.end()
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("starting %s in %s: %w", kind, dir, last)
}

func (s *Server) start(ctx context.Context, config string) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	s.Address = fmt.Sprintf("127.0.0.1:%d", port)
	command, err := map[Kind]func(int, string) ([]string, error){Knot: s.knot, Bind: s.bind}[s.Kind](port, config)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(s.Dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	s.process = exec.Command(command[0], command[1:]...)
	s.process.Dir, s.process.Stdout, s.process.Stderr = s.Dir, log, log
	if err := s.process.Start(); err != nil {
		return err
	}
	s.ended = make(chan struct{})
	go func() {
		_ = s.process.Wait() // its end is what counts
		close(s.ended)
	}()
	if err := s.keep(); err != nil {
		return err
	}
	return s.awaitListening(ctx)
}

// keep has a process wait for our end that then ends the server and removes the folder.
func (s *Server) keep() error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	keeper := exec.Command("/bin/sh", "-c", `read -r stay && exit; kill -9 "$1"; rm -rf -- "$2"`, "nameserver-keeper", fmt.Sprint(s.process.Process.Pid), s.Dir)
	keeper.Stdin, keeper.SysProcAttr = read, &syscall.SysProcAttr{Setsid: true}
	if err := keeper.Start(); err != nil {
		write.Close()
		return err
	}
	s.keeper = write
	go func() { _ = keeper.Wait() }() // only so that no zombie stays
	return nil
}

// awaitListening waits until the server, and nobody else, listens: it says so in its log.
func (s *Server) awaitListening(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	ready := map[Kind]string{Knot: "server started", Bind: "all zones loaded"}[s.Kind]
	for {
		text := s.Log()
		taken := strings.Contains(text, "address in use") || strings.Contains(text, "address already in use")
		if strings.Contains(text, ready) && !taken {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("it ended: %s", s.Log())
		case <-ctx.Done():
			return fmt.Errorf("it does not listen: %w: %s", ctx.Err(), text)
		case <-time.After(10 * time.Millisecond):
		}
		if taken {
			return errors.New("its port is taken")
		}
	}
}

// Log is what the server has written.
func (s *Server) Log() string {
	text, err := os.ReadFile(filepath.Join(s.Dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Signal sends the server a signal: SIGSTOP makes one that hangs.
func (s *Server) Signal(signal os.Signal) error { return s.process.Process.Signal(signal) }

// Kill ends the server as a failing machine would. Its folder stays.
func (s *Server) Kill() { s.end() }

// Stop ends the server and removes its folder.
func (s *Server) Stop() {
	s.end()
	_ = os.RemoveAll(s.Dir) // a leftover in /tmp harms nobody
}

func (s *Server) end() {
	if s.keeper != nil {
		_, _ = s.keeper.WriteString("stay\n") // the keeper has nothing to do any more
		s.keeper.Close()
		s.keeper = nil
	}
	if s.ended != nil {
		_ = s.process.Process.Kill() // it may have ended
		<-s.ended
	}
}

// freePort asks the kernel for a port that is free for UDP and TCP.
func freePort() (int, error) {
	for range 100 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		tcp.Close()
		if err == nil {
			udp.Close()
			return tcp.Addr().(*net.TCPAddr).Port, nil
		}
	}
	return 0, errors.New("no port is free for UDP and TCP alike")
}

// program finds a server's program: sbin is not in everybody's PATH.
func program(name, apt string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/sbin"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("finding %s: not there: apt install %s", name, apt)
}
