package hsm

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"
)

// signer is one key of a Token. It looks up the key's handle in the current connection, so it
// stays valid across every rebuild.
type signer struct {
	token  *Token
	public crypto.PublicKey
	name   keyName
}

// Public returns the public key.
func (s *signer) Public() crypto.PublicKey { return s.public }

// Sign signs the digest within Config.SignTimeout. When the session was lost it waits for a new
// one within that time and tries once more.
//
// Every signature is verified before it leaves. A faulty RSA signature reveals the key (CRT);
// clients refuse a wrong one of any kind for as long as caches keep it. BenchmarkSign measures
// the cost, see docs/token.md.
func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	start := time.Now()
	signature, err := s.sign(digest, opts)
	if err != nil {
		s.token.metrics.signErrors.WithLabelValues(errorClass(err)).Inc()
		return nil, fmt.Errorf("signing with key %s in token %s: %w", s.name, s.token.conf.Name(), err)
	}
	s.token.metrics.signSeconds.Observe(time.Since(start).Seconds())
	return signature, nil
}

func (s *signer) sign(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil || opts.HashFunc() == 0 || opts.HashFunc().Size() != len(digest) {
		return nil, errUnsupported
	}
	if _, pss := opts.(*rsa.PSSOptions); pss {
		return nil, errUnsupported
	}
	hash := opts.HashFunc()
	// The call may last longer than its deadline and the caller's buffer.
	digest = slices.Clone(digest)
	if s.token.isGone(s.name) {
		return nil, ErrNoKey // Run checks whether it comes back
	}
	return within(s.token, s.token.conf.SignTimeout, func(c *connection) ([]byte, error) {
		key := c.signer(s.name)
		if key == nil {
			var err error
			if key, err = s.token.findIn(c, s.name, s.public); err != nil {
				return nil, err
			}
		}
		begin := time.Now()
		signature, err := key.Sign(nil, digest, hash)
		if err != nil {
			return nil, err
		}
		s.token.limiter.took(time.Since(begin))
		if err := verify(s.public, digest, hash, signature); err != nil {
			return nil, err
		}
		return signature, nil
	})
}

// outcome is the result of a call inside the library.
type outcome[T any] struct {
	value T
	err   error
}

// within runs one call of the library under the limiter and a deadline. When the connection is
// lost during the call, within waits for a new one and calls once more, if the new one comes
// within the deadline. It waits in the same way while the library is loaded again for another
// token. Run must not use it: it would wait for itself.
func within[T any](t *Token, limit time.Duration, call func(*connection) (T, error)) (T, error) {
	var zero T
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for again := false; ; {
		value, lost, err := settled(t, timer.C, call)
		if lost && !again {
			again = true
		} else if lost && !errors.Is(err, ErrBadSignature) {
			return zero, unavailable(err) // lost twice within one deadline
		} else if lost || !errors.Is(err, errReload) {
			return value, err
		}
		if _, healed, reason := t.state(); reason != nil {
			select {
			case <-healed:
			case <-t.done:
				return zero, ErrClosed
			case <-timer.C:
				return zero, unavailable(err)
			}
		}
	}
}

// settled makes one call and handles its error by class: it tries once more on the same
// sessions, or gives up the connection.
func settled[T any](t *Token, expired <-chan time.Time, call func(*connection) (T, error)) (value T, lost bool, err error) {
	if _, _, reason := t.state(); reason != nil {
		return value, false, reason // the breaker is open: fail at once, without waiting at the limiter
	}
	for try := 0; ; try++ {
		c, value, err := attempt(t, expired, call)
		if err == nil || c == nil || errors.Is(err, ErrTimeout) {
			return value, false, err
		}
		switch what := classify(err); {
		case what == classFatal:
			return value, false, err
		case what == classRetry && try == 0:
			t.metrics.retries.Inc()
			continue // on the same sessions, or on the new ones after errReplaced
		}
		t.lose(c, err)
		return value, true, err
	}
}

// attempt makes one call. The connection is nil when the call was not made. A call that does
// not return keeps its slot, so there are never more hanging calls and goroutines than
// sessions.
func attempt[T any](t *Token, expired <-chan time.Time, call func(*connection) (T, error)) (*connection, T, error) {
	var zero T
	if err := t.limiter.enter(expired, t.done); err != nil {
		return nil, zero, err
	}
	c, _, reason := t.state() // after the wait: the breaker may have opened since
	if c == nil {
		t.limiter.leave()
		return nil, zero, reason
	}
	const running, returned, abandoned = 0, 1, 2
	var phase atomic.Int32
	result := make(chan outcome[T], 1)
	go func() {
		value, err := zero, errReplaced
		if c.enter() {
			value, err = call(c)
			c.leave()
		}
		if !phase.CompareAndSwap(running, returned) {
			t.limiter.hung.Add(-1) // it returned after all
			t.show()
		}
		t.limiter.leave()
		result <- outcome[T]{value, err}
	}()
	select {
	case r := <-result:
		return c, r.value, r.err
	case <-expired:
		t.limiter.abandon() // before the swap, so that the count never goes below zero
		if !phase.CompareAndSwap(running, abandoned) {
			t.limiter.hung.Add(-1)
			r := <-result // it returned at this moment
			return c, r.value, r.err
		}
		t.show()
		return c, zero, ErrTimeout
	}
}
