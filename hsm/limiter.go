package hsm

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// firstGuess is the signing time assumed before the first signature: a networked HSM. A
	// fast token corrects it within a few signatures.
	firstGuess = 5 * time.Millisecond
	// maxWaiting bounds the queue for any signing time: a waiting request keeps some 16 KiB, so
	// this is 64 MiB.
	maxWaiting = 4096
)

// limiter admits calls to the token: as many at a time as there are signing sessions, a bounded
// number waits, and the rest is refused at once.
//
// Derivation of the bound when Config.MaxQueue is 0:
//
//	waiting = sessions x (SignTimeout / 2) / mean signing time
//
// so that an admitted call gets its signature well within its deadline, and a flood is refused
// in microseconds. SoftHSM with P-256 on 2 cores: 2 x 1 s / 0.1 ms = 20,000, cut to maxWaiting;
// an HSM with 10 ms and 8 sessions: 800.
//
// A call that hangs inside the library keeps its slot until it returns.
type limiter struct {
	slots   chan struct{} // one token per call inside the library
	limit   int           // 0: derived
	timeout time.Duration
	waiting atomic.Int64
	hung    atomic.Int64     // calls inside the library past their deadline
	queue   prometheus.Gauge // how many wait

	mu        sync.Mutex    // guards what follows
	mean      time.Duration // of the time inside the library
	allHungAt time.Time     // when hung last reached all slots
}

func newLimiter(sessions, limit int, timeout time.Duration, queue prometheus.Gauge) *limiter {
	return &limiter{
		slots:   make(chan struct{}, sessions),
		limit:   limit,
		timeout: timeout,
		queue:   queue,
		mean:    firstGuess,
	}
}

// enter waits for a slot until expired or closed is closed. After a nil error the caller must
// call leave.
func (g *limiter) enter(expired <-chan time.Time, closed <-chan struct{}) error {
	if g.allHung() {
		return unavailable(errHung)
	}
	select {
	case g.slots <- struct{}{}:
		return nil
	default:
	}
	defer g.waiting.Add(-1)
	if g.waiting.Add(1) > int64(g.bound()) {
		return ErrBusy
	}
	g.queue.Inc()
	defer g.queue.Dec()
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-expired:
		return ErrTimeout
	case <-closed:
		return ErrClosed
	}
}

func (g *limiter) leave() { <-g.slots }

// allHung says whether every slot has a call past its deadline.
func (g *limiter) allHung() bool { return g.hung.Load() >= int64(cap(g.slots)) }

// abandon records that a call inside the library is past its deadline.
func (g *limiter) abandon() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hung.Add(1) >= int64(cap(g.slots)) {
		g.allHungAt = time.Now()
	}
}

// allHungSince returns when hanging calls took the last slot; zero if one is free.
func (g *limiter) allHungSince() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.allHung() {
		return time.Time{}
	}
	return g.allHungAt
}

// bound returns how many calls may wait now.
func (g *limiter) bound() int {
	if g.limit > 0 {
		return g.limit
	}
	g.mu.Lock()
	mean := g.mean
	g.mu.Unlock()
	n := int64(cap(g.slots)) * int64(g.timeout/2) / int64(mean)
	return int(min(max(n, int64(cap(g.slots))), maxWaiting))
}

// took records how long one signature took inside the library.
func (g *limiter) took(d time.Duration) {
	g.mu.Lock()
	g.mean = max(g.mean+(d-g.mean)/16, time.Microsecond) // the last 16 or so count most
	g.mu.Unlock()
}
