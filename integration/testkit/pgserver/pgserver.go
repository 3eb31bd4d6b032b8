// Package pgserver starts a private PostgreSQL for tests, for the demo and for
// a fleet on one machine: its own data folder, its own port on 127.0.0.1, one
// superuser with a password, nothing shared with the machine's own clusters.
//
// It trusts the folder it is given and the PostgreSQL installed under
// /usr/lib/postgresql. It promises that a server it started is ready when Start
// returns, that no server outlives its starter unless Detached asks for it, and
// that it never signals a process which is not the postmaster of that folder.
// Started by root, PostgreSQL runs as user postgres, since it refuses root.
package pgserver

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// ErrNotRunning says that no postmaster works on the folder.
var ErrNotRunning = errors.New("no PostgreSQL is running there")

// Config says which server to start.
type Config struct {
	// Dir holds everything of the server: data/, log/ and state.json. It is
	// created if missing; an earlier server's data in it is used again. Empty:
	// a new folder in memory or under /var/tmp (temporaryRoot), removed when the
	// starter ends. As
	// root it must be reachable by user postgres: not under a 0700 folder.
	Dir string
	// Port on 127.0.0.1. 0: the folder's last one, else a free one between
	// 22000 and 31999 (below the kernel's ephemeral ports, so that no outgoing
	// connection takes it while the server is down).
	Port int
	// Password of the superuser postgres. Empty: a random one. An existing
	// folder keeps the password it was made with.
	Password string
	// Settings are lines of postgresql.conf that add to or replace the
	// defaults below: {"fsync": "off"} makes a test cluster twice as fast.
	Settings map[string]string
	// Fresh removes what an earlier server left in Dir, stopping that first.
	Fresh bool
	// Detached lets the server outlive the process that starts it. Otherwise
	// the server is stopped when that process ends, however it ends.
	Detached bool
}

// Server is one PostgreSQL server. Its methods are safe for concurrent use.
type Server struct {
	Dir  string // absolute
	Port int

	password  string
	settings  map[string]string
	temporary bool // Dir is ours to remove

	mu     sync.Mutex // guards what follows
	pid    int        // of the postmaster; 0 when stopped
	keeper *os.File   // closing it makes the keeper end the server; nil when detached
}

// state is what Attach and a later Start must know; it is kept in Dir/state.json,
// mode 0600, since the password is in it.
type state struct {
	Port     int               `json:"port"`
	Password string            `json:"password"`
	Settings map[string]string `json:"settings,omitempty"`
}

// Start makes the cluster if Dir holds none, starts the server and returns when
// it accepts connections. ctx bounds the start, not the server's life.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	bin, err := Find()
	if err != nil {
		return nil, err
	}
	s := &Server{Port: cfg.Port, password: cfg.Password, settings: maps.Clone(cfg.Settings)}
	if err := s.claim(cfg); err != nil {
		return nil, err
	}
	fail := func(err error) (*Server, error) {
		if s.temporary {
			err = errors.Join(err, os.RemoveAll(s.Dir))
		}
		return nil, fmt.Errorf("starting PostgreSQL in %s: %w", s.Dir, err)
	}
	if err := s.prepare(ctx, bin, cfg.Fresh); err != nil {
		return fail(err)
	}
	if !cfg.Detached {
		if s.keeper, err = startKeeper(s.Dir, s.temporary); err != nil {
			return fail(err)
		}
	}
	// A port we picked ourselves can be taken between the look and the bind.
	for attempt := 1; ; attempt++ {
		if err = s.choosePort(cfg.Port); err == nil {
			err = s.launch(ctx, bin)
		}
		if err == nil {
			return s, nil
		}
		if cfg.Port != 0 || attempt == 3 || !errors.Is(err, errPortTaken) {
			s.releaseKeeper()
			return fail(err)
		}
		s.Port = 0
	}
}

// Attach finds the server that already runs in dir, whoever started it. It
// returns ErrNotRunning when there is none; Start then brings it back.
func Attach(dir string) (*Server, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("attaching to PostgreSQL: %w", err)
	}
	s := &Server{Dir: dir}
	if err := s.readState(); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = ErrNotRunning
		}
		return nil, fmt.Errorf("attaching to PostgreSQL in %s: %w", dir, err)
	}
	s.pid = runningPID(s.dataDir())
	if s.pid == 0 {
		return nil, fmt.Errorf("attaching to PostgreSQL in %s: %w", dir, ErrNotRunning)
	}
	return s, nil
}

// DSN returns the superuser's connection string for the database named db.
func (s *Server) DSN(db string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, s.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)),
		Path:     "/" + db,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// PID returns the postmaster's process id, 0 when the server is stopped.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid != 0 && !isPostmaster(s.pid, s.dataDir()) {
		return 0
	}
	return s.pid
}

// LogFile returns the path of the server's log.
func (s *Server) LogFile() string { return filepath.Join(s.Dir, "log", "postgres.log") }

func (s *Server) dataDir() string   { return filepath.Join(s.Dir, "data") }
func (s *Server) stateFile() string { return filepath.Join(s.Dir, "state.json") }

// claim fixes the folder: the caller's, or a temporary one of our own.
func (s *Server) claim(cfg Config) error {
	if cfg.Dir == "" {
		if cfg.Detached {
			return errors.New("starting PostgreSQL: a detached server needs a folder of the caller's")
		}
		dir, err := os.MkdirTemp(temporaryRoot(), "pgserver-")
		if err != nil {
			return fmt.Errorf("making a folder for PostgreSQL: %w", err)
		}
		if err := os.Chmod(dir, 0o711); err != nil { // user postgres passes through, sees nothing
			return fmt.Errorf("making a folder for PostgreSQL: %w", err)
		}
		cfg.Dir, s.temporary = dir, true
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return fmt.Errorf("making a folder for PostgreSQL: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making a folder for PostgreSQL: %w", err)
	}
	// The postmaster's working directory, by which we know it again, is the real path.
	if s.Dir, err = filepath.EvalSymlinks(dir); err != nil {
		return fmt.Errorf("making a folder for PostgreSQL: %w", err)
	}
	return nil
}

// prepare brings the folder to where the server can be launched.
func (s *Server) prepare(ctx context.Context, bin string, fresh bool) error {
	if err := reachable(s.Dir); err != nil {
		return err
	}
	if pid := runningPID(s.dataDir()); pid != 0 {
		if !fresh {
			return fmt.Errorf("it is running already, pid %d", pid)
		}
		old := &Server{Dir: s.Dir, pid: pid}
		if err := old.Stop(); err != nil {
			return err
		}
	}
	if fresh {
		for _, path := range []string{s.dataDir(), s.stateFile(), filepath.Dir(s.LogFile())} {
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("removing an earlier server: %w", err)
			}
		}
	}
	if err := os.MkdirAll(filepath.Dir(s.LogFile()), 0o755); err != nil {
		return fmt.Errorf("making the log folder: %w", err)
	}
	return s.ensureCluster(ctx, bin)
}

// ensureCluster runs initdb unless a finished cluster is there. state.json is
// written last, so a folder without it is one whose making was cut short.
func (s *Server) ensureCluster(ctx context.Context, bin string) error {
	known := Server{Dir: s.Dir}
	switch err := known.readState(); {
	case err == nil:
		s.password = known.password
		if s.Port == 0 {
			s.Port = known.Port
		}
		if s.settings == nil {
			s.settings = known.settings
		}
		return nil
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	if s.password == "" {
		s.password = rand.Text()
	}
	if err := s.initdb(ctx, bin); err != nil {
		return err
	}
	return s.writeState()
}

func (s *Server) readState() error {
	raw, err := os.ReadFile(s.stateFile())
	if err != nil {
		return fmt.Errorf("reading the server's state: %w", err)
	}
	var st state
	if err := json.Unmarshal(raw, &st); err != nil {
		return fmt.Errorf("reading the server's state in %s: %w", s.stateFile(), err)
	}
	s.Port, s.password, s.settings = st.Port, st.Password, st.Settings
	return nil
}

func (s *Server) writeState() error {
	raw, err := json.Marshal(state{Port: s.Port, Password: s.password, Settings: s.settings})
	if err != nil {
		return fmt.Errorf("writing the server's state: %w", err)
	}
	temporary := s.stateFile() + ".new"
	if err := os.WriteFile(temporary, raw, 0o600); err != nil {
		return fmt.Errorf("writing the server's state: %w", err)
	}
	if err := os.Rename(temporary, s.stateFile()); err != nil {
		return fmt.Errorf("writing the server's state: %w", err)
	}
	return nil
}

// startTimeout bounds a start when ctx does not: crash recovery replays at most
// max_wal_size (1 GB), which took 20 s on the slowest disk we met.
const startTimeout = 2 * time.Minute
