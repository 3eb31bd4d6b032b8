package devfleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"ocspfleet/integration/testkit/pgserver"
)

// part is one long-running program of the fleet.
type part struct {
	name    string // "site-a/ocspd"; the program is what follows the slash
	config  string // of a daemon; absolute
	admin   string // of a daemon, the base URL of its /readyz
	folder  string // of PostgreSQL
	port    int    // of PostgreSQL
	logFile string
}

func (p part) program() string { return filepath.Base(p.name) }
func (p part) owner() string   { return filepath.Dir(p.name) }

// parts lists what a fleet is made of, in the order in which it starts.
func (o *Options) parts() []part {
	ports := Ports(o.BasePort)
	all := []part{
		o.database("master", ports.masterPostgres()),
		o.daemon("master", "ocspsyncd", ports.masterSync()),
	}
	for i := range o.Sites {
		all = append(all, o.database(siteName(i), ports.postgres(i)),
			o.daemon(siteName(i), "ocspsyncd", ports.sync(i)), o.daemon(siteName(i), "ocspd", ports.admin(i)))
	}
	return all
}

func siteName(i int) string { return "site-" + string(rune('a'+i)) }

func (o *Options) database(owner string, port int) part {
	folder := filepath.Join(dataDir(o.Dir), owner)
	return part{name: owner + "/postgres", folder: folder, port: port, logFile: filepath.Join(folder, "log", "postgres.log")}
}

func (o *Options) daemon(owner, program string, adminPort int) part {
	return part{
		name:    owner + "/" + program,
		config:  filepath.Join(o.etc(owner), program+".yaml"),
		admin:   url(adminPort),
		logFile: filepath.Join(o.Dir, "log", owner+"-"+program+".log"),
	}
}

func (o *Options) etc(owner string) string { return filepath.Join(o.Dir, owner, "etc") }

// Parts returns the names of the long-running programs: "master/postgres",
// "master/ocspsyncd", "site-a/postgres", "site-a/ocspsyncd", "site-a/ocspd", ...
func (f *Fleet) Parts() []string {
	var names []string
	for _, p := range f.opts.parts() {
		names = append(names, p.name)
	}
	return names
}

func (f *Fleet) part(name string) (part, error) {
	for _, p := range f.opts.parts() {
		if p.name == name {
			return p, nil
		}
	}
	return part{}, usagef("no part %q in this fleet: it has %s", name, strings.Join(f.Parts(), ", "))
}

// pid returns the process id of the part, 0 when it does not run.
func (f *Fleet) pid(name string) int {
	p, err := f.part(name)
	if err != nil {
		return 0
	}
	return p.pid()
}

func (p part) pid() int {
	if p.folder != "" {
		if s, err := pgserver.Attach(p.folder); err == nil {
			return s.PID()
		}
		return 0 // not there, or not readable, which is not ours either
	}
	for _, d := range daemons(func(config string) bool { return config == p.config }) {
		return d.pid
	}
	return 0
}

// Start starts a part that is down and returns when its process runs; Ready
// tells when it does its work, too.
func (f *Fleet) Start(ctx context.Context, name string) error {
	p, err := f.part(name)
	if err != nil {
		return err
	}
	if p.folder != "" {
		_, err = f.opts.startPostgres(ctx, p)
	} else {
		err = f.opts.spawn(p)
	}
	if err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	return f.write()
}

// Signal sends a signal to a part. SIGKILL ends PostgreSQL with all its
// children, as a crash of the machine would.
func (f *Fleet) Signal(name string, signal syscall.Signal) error {
	p, err := f.part(name)
	if err != nil {
		return err
	}
	if p.folder != "" && signal == syscall.SIGKILL {
		s, err := pgserver.Attach(p.folder)
		if err != nil {
			return fmt.Errorf("killing %s: %w", name, err)
		}
		return s.Kill()
	}
	pid := p.pid()
	if pid == 0 {
		return fmt.Errorf("sending %v to %s: it does not run", signal, name)
	}
	if err := syscall.Kill(pid, signal); err != nil {
		return fmt.Errorf("sending %v to %s: %w", signal, name, err)
	}
	return nil
}

// Kill ends a part by SIGKILL and returns when it is gone.
func (f *Fleet) Kill(ctx context.Context, name string) error {
	if err := f.Signal(name, syscall.SIGKILL); err != nil {
		return err
	}
	return poll(ctx, 10*time.Second, func() error {
		if pid := f.pid(name); pid != 0 {
			return fmt.Errorf("%s: process %d does not end", name, pid)
		}
		return nil
	})
}

// Ready returns nil when every part named does its work, else what is wrong.
// Without names: all parts.
func (f *Fleet) Ready(ctx context.Context, names ...string) error {
	var wrong []error
	for _, p := range f.opts.parts() {
		if len(names) > 0 && !slices.Contains(names, p.name) {
			continue
		}
		if err := p.ready(ctx); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	return errors.Join(wrong...)
}

// AwaitReady polls Ready until it is nil or the time is over.
func (f *Fleet) AwaitReady(ctx context.Context, limit time.Duration, names ...string) error {
	return poll(ctx, limit, func() error { return f.Ready(ctx, names...) })
}

// adminClient never waits long: an admin listener is on loopback and idle.
var adminClient = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

var errNotRunning = errors.New("not running")

func (p part) ready(ctx context.Context) error {
	if p.pid() == 0 {
		return errNotRunning
	}
	if p.admin == "" {
		return nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.admin+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("asking for readiness: %w", err)
	}
	response, err := adminClient.Do(request)
	if err != nil {
		return fmt.Errorf("asking for readiness: %w", err)
	}
	defer response.Body.Close()
	said, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return fmt.Errorf("asking for readiness: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", reasons(said, response.Status))
	}
	return nil
}

// reasons are what a daemon's /readyz says, in one line.
func reasons(said []byte, status string) string {
	var body struct {
		Reasons []string `json:"reasons"`
	}
	if err := json.Unmarshal(said, &body); err == nil && len(body.Reasons) > 0 {
		return strings.Join(body.Reasons, "; ")
	}
	return cmp.Or(strings.Join(strings.Fields(string(said)), " "), status)
}

// finalError says that trying on is of no use.
type finalError struct{ error }

// poll tries until nil or a finalError, every 20 ms, and returns the last error
// when time is over.
func poll(ctx context.Context, limit time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := try()
		var final *finalError
		if err == nil || errors.As(err, &final) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for up to %v: %w", limit, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// logTail returns the end of a part's log, for an error.
func (p part) logTail(n int) string {
	text, err := os.ReadFile(p.logFile)
	if err != nil || len(text) == 0 {
		return "(its log is empty)"
	}
	return lastLines(string(text), n)
}
