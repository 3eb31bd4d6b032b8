package pgserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const superuser = "postgres"

// errPortTaken is wrapped when something else listens on the server's port.
var errPortTaken = errors.New("the port is already taken")

// defaults are the settings of every private server; Config.Settings wins.
var defaults = map[string]string{
	"listen_addresses":                    "127.0.0.1",
	"unix_socket_directories":             "", // a deep folder would exceed a socket's 107 octets
	"max_connections":                     "100",
	"shared_buffers":                      "64MB",
	"wal_level":                           "logical",
	"track_commit_timestamp":              "on",
	"max_prepared_transactions":           "0",
	"max_replication_slots":               "20",
	"max_wal_senders":                     "20",
	"max_worker_processes":                "16",
	"idle_in_transaction_session_timeout": "10min",
	"timezone":                            "UTC",
	"log_timezone":                        "UTC",
	"log_line_prefix":                     "%m [%p] %u@%d ",
	"logging_collector":                   "off", // the log is our stderr
}

// Find returns the folder of the newest PostgreSQL programs of Debian and Ubuntu.
func Find() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", fmt.Errorf("looking for PostgreSQL: %w", err)
	}
	if len(found) == 0 {
		return "", errors.New("looking for PostgreSQL under /usr/lib/postgresql: none there: apt install postgresql")
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // not a number: oldest
		return n
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(version(a), version(b)) })
	return filepath.Dir(newest), nil
}

// initdb makes the cluster beside its final place and moves it there when it is
// whole, so that a start cut short leaves nothing that looks like a cluster.
func (s *Server) initdb(ctx context.Context, bin string) error {
	owner, err := runAs()
	if err != nil {
		return err
	}
	unfinished := s.dataDir() + ".new"
	passwordFile := filepath.Join(s.Dir, "password.new")
	for _, path := range []string{unfinished, s.dataDir()} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("removing a half-made cluster: %w", err)
		}
	}
	if err := os.Mkdir(unfinished, 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	if err := os.WriteFile(passwordFile, []byte(s.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("writing the password for initdb: %w", err)
	}
	defer os.Remove(passwordFile)
	if owner != nil {
		for _, path := range []string{unfinished, passwordFile} {
			if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
				return fmt.Errorf("giving the cluster to user postgres: %w", err)
			}
		}
	}
	args := []string{
		"-D", unfinished, "-U", superuser, "--pwfile", passwordFile, "--data-checksums",
		"--auth-host", "scram-sha-256", "--auth-local", "scram-sha-256", "--encoding", "UTF8", "--no-locale",
	}
	if s.settings["fsync"] == "off" {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), args...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = unfinished, environment(), &syscall.SysProcAttr{Credential: owner}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("running initdb: %w: %s", err, tail(out, 10))
	}
	if err := os.Rename(unfinished, s.dataDir()); err != nil {
		return fmt.Errorf("moving the new cluster to its place: %w", err)
	}
	return nil
}

// writeSettings replaces our part of the configuration. It lies in a file of
// its own which postgresql.conf, as initdb made it, is told to read last.
func (s *Server) writeSettings() error {
	settings := maps.Clone(defaults)
	maps.Copy(settings, s.settings)
	settings["port"] = strconv.Itoa(s.Port)
	var text strings.Builder
	text.WriteString("# written at every start by pgserver\n")
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	own := filepath.Join(s.dataDir(), "pgserver.conf")
	if err := os.WriteFile(own, []byte(text.String()), 0o644); err != nil {
		return fmt.Errorf("writing the settings: %w", err)
	}
	const include = "include 'pgserver.conf'\n"
	main := filepath.Join(s.dataDir(), "postgresql.conf")
	present, err := os.ReadFile(main)
	if err != nil {
		return fmt.Errorf("reading the cluster's configuration: %w", err)
	}
	if strings.HasSuffix(string(present), include) {
		return nil
	}
	if err := os.WriteFile(main, append(present, include...), 0o600); err != nil {
		return fmt.Errorf("writing the cluster's configuration: %w", err)
	}
	return nil
}

// choosePort settles s.Port and sees that nobody listens there.
func (s *Server) choosePort(wished int) error {
	if s.Port != 0 {
		err := portFree(s.Port)
		if err == nil || wished != 0 {
			return err
		}
	}
	for range 100 {
		s.Port = 22000 + rand.IntN(10000)
		if portFree(s.Port) == nil {
			return nil
		}
	}
	return errors.New("looking for a free port between 22000 and 31999: none found in 100 tries")
}

func portFree(port int) error {
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("port %d on 127.0.0.1: %w: stop what listens there or choose another port", port, errPortTaken)
	case err != nil:
		return fmt.Errorf("trying port %d: %w", port, err)
	}
	return l.Close()
}

// roomInMemory is what /dev/shm must have free before a temporary server goes there:
// several test binaries have one each, of some hundred megabytes.
const roomInMemory = 6 << 30

// temporaryRoot is where folders of temporary servers are made: in memory where there
// is room, since a test's database is made of 300 small files and lives a second.
// Otherwise not os.TempDir: as root it is often a 0700 folder of the session.
func temporaryRoot() string {
	var fs syscall.Statfs_t
	if err := syscall.Statfs("/dev/shm", &fs); err == nil && int64(fs.Bavail)*int64(fs.Bsize) >= roomInMemory {
		return "/dev/shm"
	}
	return "/var/tmp"
}

// runAs returns whom PostgreSQL must run as: nil for ourselves, user postgres
// when we are root.
func runAs() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(superuser)
	if err != nil {
		return nil, fmt.Errorf("looking up user postgres (apt install postgresql makes it): %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("reading the uid of user postgres: %w", err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("reading the gid of user postgres: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// reachable says which folder on the way to dir keeps user postgres out.
func reachable(dir string) error {
	owner, err := runAs()
	if err != nil || owner == nil {
		return err
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return fmt.Errorf("looking at %s: %w", at, err)
		}
		enter := os.FileMode(0o001)
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			switch {
			case st.Uid == owner.Uid:
				enter = 0o100
			case st.Gid == owner.Gid:
				enter = 0o010
			}
		}
		if info.Mode().Perm()&enter == 0 {
			return fmt.Errorf("user postgres cannot enter %s (mode %04o): choose a folder under /var/tmp", at, info.Mode().Perm())
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// environment is what PostgreSQL's programs get: nothing of the caller's PG*
// variables and locale, which would change what they do.
func environment() []string {
	return []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
}

// tail returns the last n lines of text.
func tail(text []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
