package devfleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Up starts a fleet and returns when every part of it is ready. An earlier fleet
// in the folder is stopped and replaced, or kept with Resume. If the start fails,
// or ctx ends before it is done, nothing of the fleet stays but its logs.
func Up(ctx context.Context, opts Options) (*Fleet, error) {
	if err := opts.settle(); err != nil {
		return nil, err
	}
	unlock, err := lock(opts.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if opts.Resume {
		earlier, err := Attach(opts.Dir)
		if err == nil {
			return earlier, earlier.resume(ctx, opts)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		opts.say("no earlier fleet in %s to resume: starting a fresh one", opts.Dir)
	}
	if err := checkTools(opts.Bin); err != nil {
		return nil, err
	}
	if err := opts.claim(ctx); err != nil {
		return nil, err
	}
	if err := checkPorts(opts.BasePort, opts.Sites); err != nil {
		return nil, err
	}
	f := &Fleet{opts: opts}
	err = f.build(ctx)
	if ctx.Err() != nil {
		err = fmt.Errorf("starting the fleet: %w", context.Cause(ctx)) // whatever that broke first
	}
	if err != nil {
		err = fmt.Errorf("%w (logs are in %s)", err, filepath.Join(opts.Dir, "log"))
		return nil, errors.Join(err, takeDown(context.WithoutCancel(ctx), opts.Dir))
	}
	return f, nil
}

// said keeps lines of parallel steps whole.
var said sync.Mutex

func (o *Options) say(format string, args ...any) {
	said.Lock()
	defer said.Unlock()
	fmt.Fprintf(o.Progress, format+"\n", args...)
}

// build does what the CA's staff and the sites' operators would do, in the order
// in which one needs the other.
func (f *Fleet) build(ctx context.Context) error {
	o := &f.opts
	if err := o.remember(false); err != nil { // first: what follows is then known to be ours
		return err
	}
	if err := o.makeFolders(); err != nil {
		return err
	}
	a := o.authority()
	f.Ocspctl = f.Rel(filepath.Join(o.Bin, "ocspctl"))
	f.Sites = make([]Site, o.Sites)
	sites := make([]*siteBuild, o.Sites)
	o.say("making the CA, the master's database and those of %d sites", o.Sites)
	if err := f.makeFeed(ctx, a); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	group.Go(func() error { return a.make(groupCtx, o.Certs) })
	group.Go(func() error { return f.makeMaster(groupCtx, a) })
	for i := range o.Sites {
		sites[i] = &siteBuild{fleet: f, index: i, name: siteName(i)}
		group.Go(func() error { return sites[i].prepare(groupCtx, a) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	o.say("registering the issuers and importing their certificates (CERTS=%d)", o.Certs)
	if err := f.importAll(ctx, a); err != nil {
		return err
	}
	for _, i := range a.issuers {
		described, err := f.describe(a, i)
		if err != nil {
			return err
		}
		f.Issuers = append(f.Issuers, described)
	}
	o.say("enrolling the sites and starting their daemons")
	for _, s := range sites {
		if err := s.enrol(ctx); err != nil {
			return err
		}
	}
	if _, err := f.Ctl(ctx, "crl", "issue", "--why", "the first", "--apply"); err != nil {
		return fmt.Errorf("issuing the first CRLs: %w", err)
	}
	if err := f.startDaemons(ctx, 60*time.Second+time.Duration(o.Certs/20_000)*time.Second); err != nil {
		return err
	}
	if err := f.write(); err != nil {
		return err
	}
	return o.remember(true)
}

// startDaemons starts what is down, the databases apart, and waits until all is
// ready. A daemon that does not get there is quoted.
func (f *Fleet) startDaemons(ctx context.Context, limit time.Duration) error {
	for _, p := range f.opts.parts() {
		if p.config != "" && p.pid() == 0 {
			if err := f.opts.spawn(p); err != nil {
				return fmt.Errorf("starting %s: %w", p.name, err)
			}
		}
	}
	began := time.Now()
	for _, p := range f.opts.parts() {
		err := poll(ctx, max(time.Second, limit-time.Since(began)), func() error {
			err := p.ready(ctx)
			if errors.Is(err, errNotRunning) {
				return &finalError{errors.New("it ended at once")}
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("waiting for %s: %w; its log ends:\n%s", p.name, err, p.logTail(5))
		}
	}
	return nil
}

// resume starts what is down of an earlier fleet.
func (f *Fleet) resume(ctx context.Context, wished Options) error {
	f.opts.Progress, f.opts.Bin = wished.Progress, wished.Bin
	if err := checkTools(f.opts.Bin); err != nil {
		return err
	}
	f.opts.say("resuming the fleet in %s: %d sites, CERTS=%d, BASE_PORT=%d", f.opts.Dir, f.opts.Sites, f.opts.Certs, f.opts.BasePort)
	for _, p := range f.opts.parts() {
		if p.pid() != 0 {
			continue
		}
		f.opts.say("%s is down: starting it", p.name)
		if p.folder != "" {
			if _, err := f.opts.startPostgres(ctx, p); err != nil {
				return fmt.Errorf("starting %s: %w", p.name, err)
			}
		}
	}
	if err := f.startDaemons(ctx, 60*time.Second); err != nil {
		return err
	}
	return f.write()
}
