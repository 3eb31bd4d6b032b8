package signer

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"ocspfleet/db"
	"ocspfleet/signer/wire"
)

var (
	errBusy     = errors.New("waiting for the token: too many signatures are under way")
	errTimeout  = errors.New("waiting for the token: the time for a signature is over")
	errPanicked = errors.New("signing panicked")
)

// start signs in its own goroutine: a crypto.Signer cannot be stopped, and a client that
// disconnects or times out must not spoil the signature for other requests that wait for it. e
// gets the body, and is kept if the call has a content key.
func (r *Responder) start(ctx context.Context, f *call, id *Identity, tbs []byte, e *entry) {
	epoch := r.cache.epoch.Load()
	finish := func() {
		if f.key == nil {
			close(f.done)
			return
		}
		r.cache.finish(f, epoch)
	}
	select {
	case r.slots <- struct{}{}:
	default:
		f.err = errBusy
		finish()
		return
	}
	ctx = context.WithoutCancel(ctx)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				r.panicked(ctx, p)
				f.entry, f.err = nil, errPanicked
			}
			<-r.slots
			finish()
		}()
		signature, err := id.sign(tbs)
		if err != nil {
			f.err = err
			return
		}
		e.body = wire.MarshalBasic(tbs, id.algorithm, signature, id.cert.Raw)
		if f.key != nil {
			e.hash, e.key = f.hash, f.key
		}
		f.entry = e
	}()
}

// wait waits for a call to end.
func (r *Responder) wait(ctx context.Context, f *call) error {
	timer := time.NewTimer(r.signTimeout)
	defer timer.Stop()
	select {
	case <-f.done:
		return f.err
	case <-timer.C:
		return errTimeout
	case <-ctx.Done():
		return ctx.Err()
	}
}

// selfTest signs and verifies once, within SignTimeout, and stores the result.
func (r *Responder) selfTest(ctx context.Context, id *Identity) error {
	if id.testing.Swap(true) {
		return errTimeout // the previous one still hangs
	}
	now := r.now()
	outcome := make(chan error, 1)
	go func() {
		defer id.testing.Store(false)
		defer func() {
			if p := recover(); p != nil {
				r.panicked(context.WithoutCancel(ctx), p)
				outcome <- errPanicked
			}
		}()
		outcome <- id.tryKey(now)
	}()
	timer := time.NewTimer(r.signTimeout)
	defer timer.Stop()
	var err error
	select {
	case err = <-outcome:
	case <-timer.C:
		err = errTimeout
	case <-ctx.Done():
		return ctx.Err() // no result
	}
	before := id.test.Swap(&selfTest{at: now, err: err})
	switch failing := before != nil && before.err != nil; {
	case err != nil && !failing:
		r.log.ErrorContext(ctx, "self-test failed", slog.String("issuer", id.issuer), slog.String("certificate", id.name()), slog.Any("error", err))
	case err == nil && failing:
		r.log.InfoContext(ctx, "self-test passed again", slog.String("issuer", id.issuer), slog.String("certificate", id.name()))
	}
	return err
}

// noteDoubt empties the cache when the copy begins to be in doubt.
func (r *Responder) noteDoubt(ctx context.Context, h db.Horizon) {
	doubt := h.Doubt != ""
	if r.doubt.Load() == doubt || !r.doubt.CompareAndSwap(!doubt, doubt) {
		return
	}
	switch {
	case doubt && h.AsOf.IsZero(): // the copy was never filled before: a normal start
		r.cache.empty()
		r.log.InfoContext(ctx, "waiting for the copy", slog.String("reason", h.Doubt))
	case doubt:
		r.cache.empty()
		r.log.ErrorContext(ctx, "copy in doubt: good and unknown end", slog.String("reason", h.Doubt))
	default:
		r.log.InfoContext(ctx, "copy no longer in doubt")
	}
}

// Errors that requests can cause by the thousand: each kind is logged once in troubleInterval,
// with the number of those not logged.
const (
	troubleSource = iota
	troubleSign
	troubleHold
	troubleLookup
	troublePanic
	troubleKinds
)

const troubleInterval = time.Minute

// throttle allows one log entry per interval.
type throttle struct {
	next    atomic.Int64 // UnixNano
	dropped atomic.Int64
}

// pass says whether to log now, and how many were dropped before.
func (t *throttle) pass(now time.Time) (int64, bool) {
	next := t.next.Load()
	// After the clock was set back next may be far in the future: then log as well.
	if n := now.UnixNano(); (n < next && next-n <= int64(troubleInterval)) || !t.next.CompareAndSwap(next, n+int64(troubleInterval)) {
		t.dropped.Add(1)
		return 0, false
	}
	return t.dropped.Swap(0), true
}

func (r *Responder) trouble(ctx context.Context, kind int, event string, err error) {
	dropped, pass := r.troubles[kind].pass(r.now())
	if !pass {
		return
	}
	attrs := []slog.Attr{slog.Int64("left_out", dropped)}
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	r.log.LogAttrs(ctx, slog.LevelError, event, attrs...)
}
