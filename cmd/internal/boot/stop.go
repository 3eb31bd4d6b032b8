package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"
)

// Plan is the parts that a daemon runs, and the order in which they end. Add all parts, then
// Run once; the zero delays suit tests.
type Plan struct {
	Log *slog.Logger
	// Admin says "not ready" from the first moment of the stop; may be nil.
	Admin *Admin
	// DrainDelay is how long the servers still accept after /readyz turned 503, so that a load
	// balancer sees it: its interval times its failure count, plus one. 0: stop accepting at
	// once.
	DrainDelay time.Duration
	// Grace bounds each step of the stop: the requests in progress, then the
	// workers. Must exceed the longest request. 0: 30 s.
	Grace time.Duration

	servers []server
	workers []worker
	closers []closer

	admin       *http.Server // nil: not served
	adminFailed chan error
}

type server struct {
	name     string
	http     *http.Server
	listener net.Listener
}

type worker struct {
	name string
	run  func(context.Context) error
}

type closer struct {
	name  string
	close func() error
}

// AddServer adds a listener and its server. Its requests get their own contexts (BaseContext,
// else the background), never Run's.
func (p *Plan) AddServer(name string, s *http.Server, l net.Listener) {
	p.servers = append(p.servers, server{name, s, l})
}

// AddWorker adds a part that works until its context ends and then returns nil
// or the context's error. Returning earlier stops the daemon.
func (p *Plan) AddWorker(name string, run func(context.Context) error) {
	p.workers = append(p.workers, worker{name, run})
}

// AddCloser adds a function that closes an opened part. Closers run after all else has ended,
// the last one first.
func (p *Plan) AddCloser(name string, closeIt func() error) {
	p.closers = append(p.closers, closer{name, closeIt})
}

// StartAdmin serves Admin on addr from now on until Close, so that /readyz says from the first
// moment why the daemon is not ready: its database may take long to appear.
func (p *Plan) StartAdmin(ctx context.Context, addr string) error {
	l, err := ListenAdmin(ctx, addr)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	p.Admin.Starting("starting")
	p.ServeAdmin(l)
	return nil
}

// ServeAdmin serves Admin on l until Close.
func (p *Plan) ServeAdmin(l net.Listener) {
	p.admin = &http.Server{Handler: p.Admin.Handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	p.adminFailed = make(chan error, 1)
	go func() {
		if err := p.admin.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.adminFailed <- fmt.Errorf("serving admin: %w", err)
		}
	}()
}

// Close closes the admin listener at once and runs the closers, once. Run ends with it; a main
// that fails before Run defers it.
func (p *Plan) Close() error {
	var all error
	if p.admin != nil {
		_ = p.admin.Close()
	}
	for _, c := range slices.Backward(p.closers) {
		if err := c.close(); err != nil {
			all = errors.Join(all, fmt.Errorf("closing %s: %w", c.name, err))
		}
	}
	p.closers = nil
	return all
}

// Run starts servers and workers and returns when all have ended in order, nil after a
// requested stop (the end of ctx). A server or worker that ends by itself stops the daemon, and
// its error is returned.
func (p *Plan) Run(ctx context.Context) error {
	if p.Grace == 0 {
		p.Grace = 30 * time.Second
	}
	failed := make(chan error, len(p.servers)+len(p.workers))
	if p.Admin != nil {
		p.Admin.starting.Store(nil)
	}
	for _, s := range p.servers {
		go func() {
			if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serving %s: %w", s.name, err)
			}
		}()
	}
	// Not ctx itself: the servers' last answers still need the workers.
	working, endWork := context.WithCancel(context.WithoutCancel(ctx))
	defer endWork()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.work(working, failed)
	}()

	var cause error
	select {
	case <-ctx.Done():
		p.Log.Info("stop wished", slog.Duration("drain", p.DrainDelay))
	case cause = <-failed:
	case cause = <-p.adminFailed:
	}
	if cause != nil {
		p.Log.Info("stopping after a failure", slog.Duration("drain", p.DrainDelay))
	}
	if p.Admin != nil {
		p.Admin.stopping.Store(true)
	}
	time.Sleep(p.DrainDelay)
	err := errors.Join(cause, p.shutdown())
	endWork()
	select {
	case <-ended:
		for len(failed) > 0 {
			err = errors.Join(err, <-failed) // errors during the stop
		}
	case <-time.After(p.Grace):
		err = errors.Join(err, fmt.Errorf("waiting for the workers to end: still at it after %v", p.Grace))
	}
	return errors.Join(err, p.Close())
}

// work runs the workers and returns when all have ended.
func (p *Plan) work(ctx context.Context, failed chan<- error) {
	done := make(chan struct{})
	for _, w := range p.workers {
		go func() {
			defer func() { done <- struct{}{} }()
			err := w.run(ctx)
			switch {
			case ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)):
			case err == nil:
				failed <- fmt.Errorf("running %s: it ended by itself", w.name)
			default:
				failed <- fmt.Errorf("running %s: %w", w.name, err)
			}
		}()
	}
	for range p.workers {
		<-done
	}
}

// shutdown lets all servers finish their requests, together.
func (p *Plan) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), p.Grace)
	defer cancel()
	results := make(chan error)
	for _, s := range p.servers {
		go func() {
			if err := s.http.Shutdown(ctx); err != nil {
				_ = s.http.Close() // cuts requests that did not finish
				results <- fmt.Errorf("finishing the requests of %s: %w", s.name, err)
				return
			}
			results <- nil
		}()
	}
	var all error
	for range p.servers {
		all = errors.Join(all, <-results)
	}
	return all
}
