package nameserver

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// knot writes knotd's configuration and returns its command.
func (s *Server) knot(port int, config string) ([]string, error) {
	knotd, err := program("knotd", "knot")
	if err != nil {
		return nil, err
	}
	// The databases are sparse files: without a limit they claim gigabytes of addresses.
	text := fmt.Sprintf(`server:
    rundir: %[1]q
    listen: "127.0.0.1@%[2]d"
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: %[1]q
    journal-db-max-size: 16M
    kasp-db-max-size: 16M
    timer-db-max-size: 16M
    catalog-db-max-size: 16M
log:
  - target: stderr
    any: info
template:
  - id: default
    storage: %[1]q
`, s.Dir, port) + config
	file := filepath.Join(s.Dir, "knot.conf")
	return []string{knotd, "-c", file}, os.WriteFile(file, []byte(text), 0o600)
}

// bind writes named's configuration and returns its command. Debian's AppArmor profile
// binds /usr/sbin/named to Debian's folders: a copy in ours is free.
func (s *Server) bind(port int, config string) ([]string, error) {
	named, err := program("named", "bind9")
	if err != nil {
		return nil, err
	}
	octets, err := os.ReadFile(named)
	if err != nil {
		return nil, err
	}
	copied := filepath.Join(s.Dir, "named")
	_ = os.Remove(copied) // of an earlier try
	if err := os.WriteFile(copied, octets, 0o700); err != nil {
		return nil, err
	}
	text := fmt.Sprintf(`options {
    directory %[1]q;
    listen-on port %[2]d { 127.0.0.1; };
    listen-on-v6 { none; };
    pid-file none;
    session-keyfile none;
    recursion no;
    dnssec-validation no;
    notify explicit;
    serial-query-rate 100;
};
controls { };
`, s.Dir, port) + config
	file := filepath.Join(s.Dir, "named.conf")
	return []string{copied, "-g", "-n", "1", "-U", "1", "-X", "none", "-c", file}, os.WriteFile(file, []byte(text), 0o600)
}

// NewKey has the server's own program make a TSIG key, of algorithm hmac-sha256, and
// writes what it prints into a file of the folder, which only its owner may read.
func NewKey(kind Kind, dir, name, file string) error {
	command := map[Kind][]string{
		Bind: {"tsig-keygen", "bind9", "-a", "hmac-sha256", name},
		Knot: {"keymgr", "knot", "-t", name, "hmac-sha256"},
	}[kind]
	path, err := program(command[0], command[1])
	if err != nil {
		return err
	}
	out, err := exec.Command(path, command[2:]...).Output()
	if err != nil || !strings.Contains(string(out), "secret") {
		return fmt.Errorf("making a key by %s: %w: %q", path, err, out)
	}
	return os.WriteFile(filepath.Join(dir, file), out, 0o600)
}
