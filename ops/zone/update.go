package zone

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Edit is a change of a name's addresses.
type Edit struct {
	Add, Remove []netip.Addr
	// Judge may refuse the addresses that would be left; it is called again after each reading.
	// It is not called when nothing is removed.
	Judge func(left []netip.Addr) error
	// Force may leave a name without an address, and does not call Judge.
	Force bool
}

// Change is the effect of an edit on one name.
type Change struct {
	Name           string
	Added, Removed []netip.Addr // both empty: nothing to change
	Left           []netip.Addr // the addresses of the name afterwards
	// TTL is how long a resolver may still answer the old addresses after the servers have the
	// change: the TTL of the changed RRsets. 0: nothing changed, or there was nothing to keep.
	TTL time.Duration
}

// None says that nothing changes.
func (c Change) None() bool { return len(c.Added) == 0 && len(c.Removed) == 0 }

// ErrLast says that a name would have no address left.
var ErrLast = errors.New("it is the last address of the name")

// errChanged says that a prerequisite was not met.
var errChanged = errors.New("the name was changed meanwhile")

// mostReads bounds how often an edit starts again: several editors at once are rare.
const mostReads = 8

// Plan reads a name and returns what the edit would do now. If that is refused, it returns both
// the change and the error.
func (z *Zone) Plan(ctx context.Context, name string, edit Edit) (Change, error) {
	set, err := z.Read(ctx, name)
	if err != nil {
		return Change{Name: dns.CanonicalName(name)}, err
	}
	return edit.on(set)
}

// on returns the edit's effect on a name's current addresses.
func (e Edit) on(set Set) (Change, error) {
	c := Change{Name: set.Name}
	var touched []Record
	for _, r := range set.Records {
		if slices.Contains(e.Remove, r.Address) {
			c.Removed = append(c.Removed, r.Address)
			touched = append(touched, r)
		} else {
			c.Left = append(c.Left, r.Address)
		}
	}
	for _, a := range e.Add {
		if !slices.Contains(c.Left, a) {
			c.Added, c.Left = append(c.Added, a), append(c.Left, a)
			touched = append(touched, Record{a, set.ttl(a)})
		}
	}
	slices.SortFunc(c.Left, netip.Addr.Compare)
	c.TTL = longest(touched)
	switch {
	case e.Force || len(c.Removed) == 0:
		return c, nil
	case len(c.Left) == 0:
		return c, fmt.Errorf("withdrawing %s from %s: %w (put another there first, or --force)", list(c.Removed), set.Name, ErrLast)
	case e.Judge != nil:
		if err := e.Judge(c.Left); err != nil {
			return c, fmt.Errorf("withdrawing %s from %s: %w", list(c.Removed), set.Name, err)
		}
	}
	return c, nil
}

// Apply makes an edit. Also when nothing is to change, it returns no error only if the primary
// has confirmed the result by its signature. before is called with the next change, and may
// refuse it.
func (z *Zone) Apply(ctx context.Context, name string, edit Edit, before func(Change) error) (Change, error) {
	var done Change
	for range mostReads {
		set, err := z.Read(ctx, name)
		if err != nil {
			return done, err
		}
		change, err := edit.on(set)
		if err != nil {
			return change, err
		}
		if !change.None() {
			if err := before(change); err != nil {
				return change, err
			}
		}
		err = z.update(ctx, set, change.Added, change.Removed)
		switch {
		case err == nil && change.None() && !done.None():
			return done, nil // the first try had arrived, although its answer was lost
		case err == nil:
			return change, z.readBack(ctx, change)
		case !errors.Is(err, errChanged):
			return change, fmt.Errorf("changing the addresses of %s: %w", set.Name, err)
		}
		done = change
		select { // another editor is at work: wait a random time
		case <-ctx.Done():
			return change, ctx.Err()
		case <-time.After(time.Duration(10+rand.IntN(90)) * time.Millisecond):
		}
	}
	return done, fmt.Errorf("changing the addresses of %s: %w, %d times (does a wildcard answer for it, or another view?)", dns.CanonicalName(name), errChanged, mostReads)
}

// readBack waits until the primary serves the change: bind9 answers before a zone with
// inline-signing shows it.
func (z *Zone) readBack(ctx context.Context, c Change) error {
	if c.None() {
		return nil
	}
	patience := time.After(z.readPatience)
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		set, err := z.Read(ctx, c.Name)
		if err != nil {
			return fmt.Errorf("reading back a change that was made: %w", err)
		}
		if !slices.ContainsFunc(c.Removed, set.Has) && !slices.ContainsFunc(c.Added, func(a netip.Addr) bool { return !set.Has(a) }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-patience:
			return fmt.Errorf("reading back a change that was made: %s has %s (does another desk, or a machine, keep it otherwise?)", c.Name, list(set.Addresses()))
		case <-time.After(pause):
		}
	}
}

// update sends one update, which applies only if the name still has what was read: nothing,
// some records more, or some less. Otherwise it returns errChanged.
func (z *Zone) update(ctx context.Context, was Set, add, remove []netip.Addr) error {
	answer, err := z.exchange(ctx, z.c.Server, true, func() *dns.Msg { return z.message(was, add, remove) })
	if err != nil {
		return err
	}
	switch answer.Rcode {
	case dns.RcodeSuccess:
		return nil
	case dns.RcodeNXRrset, dns.RcodeYXRrset, dns.RcodeNameError, dns.RcodeYXDomain: // RFC 2136 section 3.2
		return errChanged
	}
	return z.refusal(answer, was.Name)
}

func (z *Zone) message(was Set, add, remove []netip.Addr) *dns.Msg {
	m := new(dns.Msg).SetUpdate(z.c.Zone)
	var there []dns.RR
	for _, r := range was.Records {
		there = append(there, rr(was.Name, r.Address, 0))
	}
	m.Used(there) // RFC 2136 section 2.4.2: the prerequisite is the whole RRset
	absent := []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: was.Name, Rrtype: dns.TypeCNAME}}}
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		if !slices.ContainsFunc(there, func(r dns.RR) bool { return r.Header().Rrtype == kind }) {
			absent = append(absent, &dns.ANY{Hdr: dns.RR_Header{Name: was.Name, Rrtype: kind}})
		}
	}
	m.RRsetNotUsed(absent) // section 2.4.3; beside a CNAME an addition is ignored silently (3.4.2.2)
	for _, a := range remove {
		m.Remove([]dns.RR{rr(was.Name, a, 0)})
	}
	for _, a := range add {
		ttl := was.ttl(a)
		if ttl == 0 {
			ttl = z.c.TTL
		}
		m.Insert([]dns.RR{rr(was.Name, a, ttl)})
	}
	return m
}

// list writes addresses for people.
func list(addresses []netip.Addr) string {
	texts := make([]string, len(addresses))
	for i, a := range addresses {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}
