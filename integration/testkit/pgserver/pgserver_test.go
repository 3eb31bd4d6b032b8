package pgserver_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ocspfleet/integration/testkit/pgserver"

	"github.com/jackc/pgx/v5"
)

// TestMain lets the test binary play the process that starts a server.
func TestMain(m *testing.M) {
	if dir, starter := os.LookupEnv("PGSERVER_TEST_STARTER"); starter {
		detached := dir != ""
		s, err := pgserver.Start(context.Background(), pgserver.Config{Dir: dir, Detached: detached, Settings: quick})
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("started", s.Dir)
		if detached {
			os.Exit(0)
		}
		time.Sleep(time.Minute) // until killed
	}
	os.Exit(m.Run())
}

var quick = map[string]string{"fsync": "off"}

// dir is reachable by user postgres, which t.TempDir is not.
func dir(t *testing.T) string {
	t.Helper()
	d, err := os.MkdirTemp("/var/tmp", "pgserver-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(d) })
	if err := os.Chmod(d, 0o711); err != nil {
		t.Fatal(err)
	}
	return d
}

func start(t *testing.T, cfg pgserver.Config) *pgserver.Server {
	t.Helper()
	s, err := pgserver.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Destroy(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// query returns the one text that sql yields.
func query(t *testing.T, dsn, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var text string
	if err := conn.QueryRow(t.Context(), sql).Scan(&text); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return text
}

// execute runs sql and returns its connection, open until the test ends.
func execute(t *testing.T, dsn, sql string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return conn
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not seen in 20 s: %s", what)
		}
	}
}

func TestServerLife(t *testing.T) {
	s := start(t, pgserver.Config{Dir: filepath.Join(dir(t), "pg"), Settings: map[string]string{
		"fsync": "off", "application_name": "it's quoted",
	}})
	t.Run("psql reaches it with the password", func(t *testing.T) {
		out, err := exec.CommandContext(t.Context(), "psql", "-XAtc", "show wal_level", s.DSN("postgres")).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "logical" {
			t.Fatalf("psql (apt install postgresql): %v: %s", err, out)
		}
	})
	t.Run("a wrong password is refused", func(t *testing.T) {
		dsn := strings.Replace(s.DSN("postgres"), ":", ":wrong", 2)
		if conn, err := pgx.Connect(t.Context(), dsn); err == nil {
			conn.Close(t.Context())
			t.Fatal("connected with a wrong password")
		}
	})
	t.Run("settings", func(t *testing.T) {
		for name, want := range map[string]string{
			"data_checksums": "on", "track_commit_timestamp": "on", "max_prepared_transactions": "0", "fsync": "off",
			"TimeZone": "UTC", "server_encoding": "UTF8", "lc_collate": "C", "listen_addresses": "127.0.0.1",
			"unix_socket_directories": "", "shared_buffers": "64MB", "application_name": "it's quoted",
		} {
			if got := query(t, s.DSN("postgres"), "show "+name); got != want {
				t.Errorf("%s = %q, want %q", name, got, want)
			}
		}
	})
	t.Run("attach finds it", func(t *testing.T) {
		again, err := pgserver.Attach(s.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if again.PID() != s.PID() || again.DSN("x") != s.DSN("x") {
			t.Errorf("attached to pid %d %s, want %d %s", again.PID(), again.DSN("x"), s.PID(), s.DSN("x"))
		}
	})
	t.Run("a second start is refused", func(t *testing.T) {
		_, err := pgserver.Start(t.Context(), pgserver.Config{Dir: s.Dir})
		if err == nil || !strings.Contains(err.Error(), "running already, pid") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the password lies in a file of mode 0600 only", func(t *testing.T) {
		info, err := os.Stat(filepath.Join(s.Dir, "state.json"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", info, err)
		}
		if left, _ := filepath.Glob(filepath.Join(s.Dir, "*.new")); left != nil {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("a crash keeps what was committed", func(t *testing.T) { crash(t, s) })
	t.Run("stopped, then started anew from the folder", func(t *testing.T) {
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := pgserver.Attach(s.Dir); !errors.Is(err, pgserver.ErrNotRunning) {
			t.Errorf("attached to a stopped server: %v", err)
		}
		again := start(t, pgserver.Config{Dir: s.Dir})
		if again.Port != s.Port {
			t.Errorf("port %d, want the folder's %d", again.Port, s.Port)
		}
		if got := query(t, again.DSN("postgres"), "select word from kept"); got != "kept" {
			t.Errorf("got %q", got)
		}
	})
}

func crash(t *testing.T, s *pgserver.Server) {
	conn := execute(t, s.DSN("postgres"), "create table kept as select 'kept' as word")
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if s.PID() != 0 {
		t.Errorf("killed, but pid is %d", s.PID())
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the old connection survived the crash")
	}
	if err := s.Kill(); err != nil {
		t.Errorf("killing a dead server: %v", err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query(t, s.DSN("postgres"), "select word from kept"); got != "kept" {
		t.Errorf("got %q", got)
	}
	log, err := os.ReadFile(s.LogFile())
	if err != nil || !strings.Contains(string(log), "not properly shut down; automatic recovery") {
		t.Errorf("the log does not speak of a recovery (%v): it was no crash", err)
	}
}

func TestPortTakenIsSaidInOneSentence(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	_, err = pgserver.Start(t.Context(), pgserver.Config{Dir: dir(t), Port: port, Settings: quick})
	want := fmt.Sprintf("port %d on 127.0.0.1: the port is already taken: stop what listens there or choose another port", port)
	if err == nil || !strings.HasSuffix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want ... %s", err, want)
	}
}

func TestFailedStartQuotesTheLog(t *testing.T) {
	_, err := pgserver.Start(t.Context(), pgserver.Config{Settings: map[string]string{"fsync": "off", "no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
		t.Errorf("got %v", err)
	}
}

func TestFolderThatPostgresCannotEnter(t *testing.T) {
	closed := dir(t)
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := pgserver.Start(t.Context(), pgserver.Config{Dir: filepath.Join(closed, "pg"), Settings: quick})
	if os.Geteuid() != 0 { // then PostgreSQL runs as ourselves and may enter
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Destroy(); err != nil {
			t.Error(err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), "user postgres cannot enter "+closed+" (mode 0700)") {
		t.Errorf("got %v", err)
	}
}

func TestFreshReplacesHalfDeadServer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts two servers")
	}
	d := dir(t)
	old := start(t, pgserver.Config{Dir: d, Settings: quick})
	execute(t, old.DSN("postgres"), "create table old as select 'made' as word")
	fresh := start(t, pgserver.Config{Dir: d, Settings: quick, Fresh: true, Port: old.Port})
	if got := query(t, fresh.DSN("postgres"), "select count(*)::text from pg_class where relname = 'old'"); got != "0" {
		t.Error("the old data are still there")
	}
}

// starter runs this binary as a process that starts a server and returns the
// server's folder.
func starter(t *testing.T, folder string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PGSERVER_TEST_STARTER="+folder)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("the starter said nothing: %v", lines.Err())
	}
	said, found := strings.CutPrefix(lines.Text(), "started ")
	if !found {
		t.Fatal(lines.Text())
	}
	if folder != "" && lines.Scan() { // must reach the end: the server holds no pipe of ours
		t.Fatalf("more output: %s", lines.Text())
	}
	return cmd, said
}

// TestDeadServersLockIsNoObstacle: its number may be another's by now, or a zombie's.
func TestDeadServersLockIsNoObstacle(t *testing.T) {
	if testing.Short() {
		t.Skip("kills a server and starts it again")
	}
	s := start(t, pgserver.Config{Dir: filepath.Join(dir(t), "pg"), Settings: quick})
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.Dir, "data", "postmaster.pid")
	lock, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("a killed server leaves its lock: %v", err)
	}
	other := exec.Command("sleep", "60")
	if info, err := os.Stat(file); err != nil {
		t.Fatal(err)
	} else if owner := info.Sys().(*syscall.Stat_t); os.Geteuid() == 0 { // PostgreSQL fears only processes that it could signal
		other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	})
	_, rest, _ := strings.Cut(string(lock), "\n")
	if err := os.WriteFile(file, fmt.Appendf(nil, "%d\n%s", other.Process.Pid, rest), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := other.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the other process was ended: %v", err)
	}
}

func TestServerEndsWithItsKilledStarter(t *testing.T) {
	cmd, folder := starter(t, "")
	s, err := pgserver.Attach(folder)
	if err != nil {
		t.Fatal(err)
	}
	// The whole group, as a terminal or a CI runner would.
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "the server has ended", func() bool { return s.PID() == 0 })
	eventually(t, "its folder is removed", func() bool {
		_, err := os.Stat(folder)
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestDetachedServerOutlivesItsStarterAndHoldsNoPipe(t *testing.T) {
	d := dir(t)
	cmd, _ := starter(t, d)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	s, err := pgserver.Attach(d)
	if err != nil {
		t.Fatal(err)
	}
	if got := query(t, s.DSN("postgres"), "select 'alive'"); got != "alive" {
		t.Error(got)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if s.PID() != 0 {
		t.Errorf("stopped, but pid is %d", s.PID())
	}
}
