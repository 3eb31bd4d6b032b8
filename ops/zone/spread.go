package zone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// Server is one authoritative server of the zone.
type Server struct {
	Name      string   // as in the NS record or the configuration
	Addresses []string // HOST:PORT
}

// State is whether a server has the change.
type State struct {
	Server string
	Serial uint32
	Err    error // why it did not answer, or why it has no change yet
}

// Servers returns the zone's authoritative servers: those of the configuration, or those in the
// primary's NS records.
func (z *Zone) Servers(ctx context.Context) ([]Server, error) {
	var all []Server
	for _, server := range z.c.Servers {
		all = append(all, Server{server, []string{server}})
	}
	if len(all) > 0 {
		return all, nil
	}
	answer, err := z.query(ctx, z.c.Server, z.c.Zone, dns.TypeNS)
	if err != nil {
		return nil, fmt.Errorf("reading the servers of zone %s: %w", z.c.Zone, err)
	}
	for _, r := range answer.Answer {
		if ns, ok := r.(*dns.NS); ok {
			all = append(all, Server{ns.Ns, z.addressesOf(ctx, ns.Ns)})
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("reading the servers of zone %s: %w", z.c.Zone, errors.New("it has no NS records (is dns.zone the zone's name?)"))
	}
	return all, nil
}

// addressesOf looks up the addresses of a server: at the primary if its name is in the zone,
// else by this machine's resolver. Nil: none was found.
func (z *Zone) addressesOf(ctx context.Context, host string) []string {
	var all []string
	if Within(z.c.Zone, host) {
		if set, err := z.Read(ctx, host); err == nil {
			for _, r := range set.Records {
				all = append(all, net.JoinHostPort(r.Address.String(), z.port))
			}
		}
		return all
	}
	found, err := net.DefaultResolver.LookupHost(ctx, strings.TrimSuffix(host, "."))
	if err != nil {
		return nil
	}
	for _, a := range found {
		all = append(all, net.JoinHostPort(a, z.port))
	}
	return all
}

// The pauses between two queries to a server that lags.
const (
	firstPause = 50 * time.Millisecond
	maxPause   = time.Second
)

// Await asks each server until it has the serial number, or a later one, or ctx ends. It calls
// told with the state of each server as soon as that is known, one at a time.
func (z *Zone) Await(ctx context.Context, servers []Server, serial uint32, told func(State)) []State {
	states := make([]State, len(servers))
	heard := make(chan State)
	var group errgroup.Group
	for i, server := range servers {
		group.Go(func() error {
			states[i] = z.awaitOne(ctx, server, serial)
			heard <- states[i]
			return nil
		})
	}
	for range servers {
		told(<-heard)
	}
	_ = group.Wait() // its functions return no error
	return states
}

func (z *Zone) awaitOne(ctx context.Context, server Server, serial uint32) State {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		s := z.Ask(ctx, server)
		switch {
		case s.Err == nil && int32(s.Serial-serial) >= 0: // RFC 1982 section 3.2
			return s
		case s.Err == nil:
			s.Err = fmt.Errorf("it has serial %d, not %d yet (does the primary notify it, and let it transfer?)", s.Serial, serial)
		}
		select {
		case <-ctx.Done():
			return s
		case <-time.After(pause):
		}
		if ctx.Err() != nil {
			return s
		}
	}
}

// Ask asks a server for its serial number, at each of its addresses until one answers.
func (z *Zone) Ask(ctx context.Context, server Server) State {
	s := State{Server: server.Name, Err: errors.New("nobody knows its address")}
	for _, address := range server.Addresses {
		if s.Serial, s.Err = z.serialAt(ctx, address); s.Err == nil {
			return s
		}
	}
	return s
}
