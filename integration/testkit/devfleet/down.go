package devfleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"ocspfleet/integration/testkit/pgserver"

	"golang.org/x/sync/errgroup"
)

// Down stops the fleet and removes its data; logs stay in Dir/log.
func (f *Fleet) Down(ctx context.Context) error { return Down(ctx, f.opts.Dir) }

// Down stops whatever runs of a fleet in dir and removes its data; the logs
// stay. It needs no notes of the fleet's start and no part to be whole: twice is
// as good as once, and a dir without a fleet is no error.
func Down(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("naming %s: %w", dir, err)
	}
	_, missing := os.Stat(dir)
	_, noData := os.Stat(dataDir(dir))
	if errors.Is(missing, fs.ErrNotExist) && errors.Is(noData, fs.ErrNotExist) && len(daemonsOf(dir)) == 0 {
		return nil // and nothing is made only to be locked
	}
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	return takeDown(ctx, dir)
}

// takeDown is Down for who holds the lock.
func takeDown(ctx context.Context, dir string) error {
	if err := stopDaemons(daemonsOf(dir), 15*time.Second); err != nil {
		return err
	}
	data := dataDir(dir)
	if err := ownFolder(data); err != nil {
		return err
	}
	folders, err := filepath.Glob(filepath.Join(data, "*"))
	if err != nil {
		return fmt.Errorf("looking for databases in %s: %w", data, err)
	}
	group, _ := errgroup.WithContext(ctx)
	for _, folder := range folders {
		group.Go(func() error { return stopPostgres(folder) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, folder := range folders {
		keepLog(folder, filepath.Join(dir, "log", filepath.Base(folder)+"-postgres.log"))
	}
	var gone []string
	if !strings.HasPrefix(data, dir+"/") {
		gone = append(gone, data)
	}
	names := []string{"ca", "master", "site-?", "pg", describedIn + "*", startedWith + "*"} // the marker last
	if !isFleet(dir) {
		names = nil // what has these names is another's
	}
	for _, pattern := range names {
		matches, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return fmt.Errorf("removing the fleet in %s: %w", dir, err)
		}
		gone = append(gone, matches...)
	}
	for _, path := range gone {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("removing the fleet in %s: %w", dir, err)
		}
	}
	return nil
}

// isFleet says whether we made what is in dir.
func isFleet(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, startedWith))
	return err == nil
}

// ownFolder refuses a folder that somebody else laid out where ours would be.
func ownFolder(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at the databases' folder: %w", err)
	}
	if owner, known := info.Sys().(*syscall.Stat_t); !info.IsDir() || known && int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is not a folder of ours: remove it as its owner", path)
	}
	return nil
}

// daemonsOf returns the daemons whose configuration lies in dir/OWNER/etc.
func daemonsOf(dir string) []process {
	return daemons(func(config string) bool {
		name, under := strings.CutPrefix(config, dir+"/")
		segments := strings.Split(name, "/")
		return under && len(segments) == 3 && segments[1] == "etc"
	})
}

func stopPostgres(folder string) error {
	s, err := pgserver.Attach(folder)
	if errors.Is(err, pgserver.ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.Stop()
}

// keepLog saves a database's log from being removed with its data. A log that
// cannot be saved is no reason to leave a database behind.
func keepLog(folder, to string) {
	if err := os.Rename(filepath.Join(folder, "log", "postgres.log"), to); err == nil {
		return
	}
	if text, err := os.ReadFile(filepath.Join(folder, "log", "postgres.log")); err == nil {
		_ = os.WriteFile(to, text, 0o600)
	}
}

// claim makes the folder ours: it stops an earlier fleet in it, and refuses a
// folder that holds something else under the names that we would use.
func (o *Options) claim(ctx context.Context) error {
	for _, name := range []string{"ca", "master", "site-a", "pg"} {
		if _, err := os.Lstat(filepath.Join(o.Dir, name)); err == nil && !isFleet(o.Dir) {
			return fmt.Errorf("%s exists, but not by our doing: name another folder with --dir", filepath.Join(o.Dir, name))
		}
	}
	if err := takeDown(ctx, o.Dir); err != nil {
		return fmt.Errorf("stopping the earlier fleet: %w", err)
	}
	if err := os.RemoveAll(filepath.Join(o.Dir, "log")); err != nil {
		return fmt.Errorf("removing the logs of the earlier fleet: %w", err)
	}
	return nil
}

// makeFolders makes the places that everything else lies in.
func (o *Options) makeFolders() error {
	for _, name := range []string{"log", "ca"} {
		if err := os.MkdirAll(filepath.Join(o.Dir, name), 0o700); err != nil {
			return fmt.Errorf("making the fleet's folder: %w", err)
		}
	}
	data := dataDir(o.Dir)
	// Mkdir and not MkdirAll: in /var/tmp somebody else could have laid it out.
	if err := os.Mkdir(data, 0o711); err != nil {
		return fmt.Errorf("making the databases' folder: %w", err)
	}
	if err := os.Chmod(data, 0o711); err != nil { // whatever the umask: user postgres passes through
		return fmt.Errorf("making the databases' folder: %w", err)
	}
	if link := filepath.Join(o.Dir, "pg"); link != data {
		if err := os.Symlink(data, link); err != nil {
			return fmt.Errorf("linking the databases' folder: %w", err)
		}
	}
	return nil
}

// lock keeps two starts or stops of one fleet apart. The kernel lets go of it
// when we end, however we end.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the fleet's folder: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%s belongs to another user: stop that fleet as the user who started it: %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("locking the fleet's folder: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another ocspfleet works on %s: wait for its end", dir)
		}
		return nil, fmt.Errorf("locking the fleet's folder: %w", err)
	}
	return func() { file.Close() }, nil
}
