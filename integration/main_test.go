package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ocspfleet/integration/testkit/devfleet"
)

// The tests of the fleet share one, since its start takes seconds. It has three
// sites: tests may kill and restart parts of site-a and site-b, but leave them
// whole; site-c is there to be lost. Serials are taken, never shared (see fresh).
const sharedSites = 3

// ground is what all tests stand on: the built programs and a folder.
type ground struct {
	dir string // of everything below
	bin string

	mu    sync.Mutex // guards what follows
	down  []func()
	bases []int // ports that fleets begin at: another may not listen there yet
}

var basis = sync.OnceValues(func() (*ground, error) {
	dir, err := os.MkdirTemp("", "ocspfleet-integration-")
	if err != nil {
		return nil, err
	}
	g := &ground{dir: dir, bin: filepath.Join(dir, "bin")}
	if err := g.keep(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	// -buildvcs=false: a clone may belong to another user, whom git refuses.
	build := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-o", g.bin+"/", "./cmd/...")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		return g, fmt.Errorf("building the programs: %w: %s", err, out)
	}
	return g, nil
})

// started remembers the ground for TestMain, which must not lay it.
var started atomic.Pointer[ground]

func TestMain(m *testing.M) {
	code := m.Run()
	if g := started.Load(); g != nil {
		for _, f := range slices.Backward(g.down) {
			f()
		}
	}
	os.Exit(code)
}

func onGround(t *testing.T) *ground {
	t.Helper()
	g, err := basis()
	started.Store(g)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// options are for a fleet in a folder of its own called name. It is taken down
// when the test process ends.
func (g *ground) options(t *testing.T, name string, sites int) devfleet.Options {
	t.Helper()
	base := g.basePort(t, sites)
	o := devfleet.Options{Dir: filepath.Join(g.dir, name), Root: g.dir, Bin: g.bin, Sites: sites, Certs: 400, BasePort: base}
	g.atEnd(func() { _ = devfleet.Down(context.Background(), o.Dir) })
	return o
}

// basePort returns free ports that no other test of this process has been given.
func (g *ground) basePort(t *testing.T, sites int) int {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		base, err := devfleet.FreeBasePort(sites)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(g.bases, base) {
			g.bases = append(g.bases, base)
			return base
		}
	}
}

// keep starts a process that takes all fleets down and removes the folder when we
// are gone, be it by SIGKILL or by the test's timeout: it waits for the end of a
// pipe that only we hold open.
func (g *ground) keep() error {
	const script = `read -r _; for fleet in "$1"/*/; do "$1/bin/ocspfleet" down --dir "${fleet%/}"; done; rm -rf -- "$1"`
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("starting the keeper of %s: %w", g.dir, err)
	}
	defer read.Close()
	keeper := exec.Command("/bin/sh", "-c", script, "fleet-keeper", g.dir)
	keeper.Stdin, keeper.SysProcAttr = read, &syscall.SysProcAttr{Setsid: true}
	if err := keeper.Start(); err != nil {
		write.Close()
		return fmt.Errorf("starting the keeper of %s: %w", g.dir, err)
	}
	g.atEnd(func() {
		write.Close()
		_ = keeper.Wait() // what it has to do is done already, but for the folder
	})
	return nil
}

// atEnd has f done when the test process ends, before what was said earlier.
func (g *ground) atEnd(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.down = append(g.down, f)
}

var sharedFleet struct {
	once   sync.Once
	f      *devfleet.Fleet
	err    error
	errors []string // that it logged until it was ready
}

// shared returns the fleet of all tests, whole and ready.
func shared(t *testing.T) *devfleet.Fleet {
	t.Helper()
	if testing.Short() {
		t.Skip("a whole fleet is not started with -short")
	}
	g := onGround(t)
	sharedFleet.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		sharedFleet.f, sharedFleet.err = devfleet.Up(ctx, g.options(t, "shared", sharedSites))
		if sharedFleet.err == nil {
			sharedFleet.errors = errorsLogged(t, sharedFleet.f)
		}
	})
	if sharedFleet.err != nil {
		t.Fatal(sharedFleet.err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			_ = sharedFleet.f.WriteLogs(t.Output(), "", 8)
		}
	})
	return sharedFleet.f
}

// lasting are the sites that every test may use.
func lasting(f *devfleet.Fleet) []devfleet.Site { return f.Sites[:2] }

var taken struct {
	sync.Mutex
	good, revoked map[string]int
}

// fresh returns a good serial of the issuer that no test has asked for.
func fresh(t *testing.T, issuer devfleet.Issuer) string {
	t.Helper()
	taken.Lock()
	defer taken.Unlock()
	if taken.good == nil {
		taken.good, taken.revoked = map[string]int{}, map[string]int{}
	}
	n := len(issuer.Serials.Good) - 1 - taken.good[issuer.Name]
	taken.good[issuer.Name]++
	if n < 40 { // the first ones are for tests that only read
		t.Fatalf("no fresh serial of issuer %s is left: start the fleet with more", issuer.Name)
	}
	return issuer.Serials.Good[n]
}

// freshRevoked returns a revoked serial of the issuer that no test has asked for.
func freshRevoked(t *testing.T, issuer devfleet.Issuer) string {
	t.Helper()
	_ = fresh(t, issuer) // makes the maps
	taken.Lock()
	defer taken.Unlock()
	n := len(issuer.Serials.Revoked) - 1 - taken.revoked[issuer.Name]
	taken.revoked[issuer.Name]++
	if n < len(issuer.Serials.Revoked)/2 {
		t.Fatalf("no fresh revoked serial of issuer %s is left: start the fleet with more", issuer.Name)
	}
	return issuer.Serials.Revoked[n].Serial
}

// await fails the test when a site does not answer so within the limit.
func await(t *testing.T, f *devfleet.Fleet, site devfleet.Site, issuer devfleet.Issuer, serial string, status int, limit time.Duration) time.Duration {
	t.Helper()
	took, err := f.AwaitStatus(t.Context(), site, issuer, serial, status, limit)
	if err != nil {
		t.Fatal(err)
	}
	return took
}

// whole fails the test when the fleet is not ready within the limit.
func whole(t *testing.T, f *devfleet.Fleet, limit time.Duration, names ...string) {
	t.Helper()
	if err := f.AwaitReady(t.Context(), limit, names...); err != nil {
		t.Fatal(err)
	}
}
