package boot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// Listener is a public listener in a configuration: its key and its address, empty for none.
type Listener struct{ Key, Address string }

// CheckListeners checks the addresses that a daemon is to listen on, the admin's and the public
// ones, as far as possible without listening.
func CheckListeners(report func(key, problem string), admin string, public ...Listener) {
	at, err := adminAddress(admin)
	if err != nil {
		report("admin", err.Error())
	}
	for _, l := range public {
		if l.Address == "" {
			continue
		}
		other, err := net.ResolveTCPAddr("tcp", l.Address)
		switch {
		case err != nil:
			report(l.Key, fmt.Sprintf("%q: %v", l.Address, err))
		case at != nil && at.Port == other.Port && at.Port != 0 && (at.IP.Equal(other.IP) || len(other.IP) == 0 || other.IP.IsUnspecified()):
			report(l.Key, fmt.Sprintf("%q: admin listens on that port (%s): choose another for one of them", l.Address, admin))
		}
	}
}

// adminAddress resolves an address for the admin. Only loopback is allowed: profiles and
// metrics reveal much, and there is no login.
func adminAddress(addr string) (*net.TCPAddr, error) {
	resolved, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("resolving the admin address %q: %w", addr, err)
	}
	if !resolved.IP.IsLoopback() {
		return nil, fmt.Errorf("listening for the admin on %q: it is not a loopback address: choose 127.0.0.1", addr)
	}
	return resolved, nil
}

// ListenAdmin listens on addr for the admin.
func ListenAdmin(ctx context.Context, addr string) (net.Listener, error) {
	if _, err := adminAddress(addr); err != nil {
		return nil, err
	}
	return Listen(ctx, addr)
}

// Listen listens on a TCP address with a clear error when it is in use.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listening on %s: the port is already taken: stop what listens there or choose another port", addr)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("listening on %s: not allowed: a port below 1024 needs root or CAP_NET_BIND_SERVICE", addr)
	case err != nil:
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	return l, nil
}
