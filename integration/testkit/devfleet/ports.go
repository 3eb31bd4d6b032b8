package devfleet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// maxSites keeps the plan within the 300 ports that a fleet may use, and the
// names within one letter.
const maxSites = 26

// reservedPort is never used, so that a machine may keep it for something else.
const reservedPort = 18999

// Ports is where everything listens, all on 127.0.0.1:
//
//	base+0            the master's PostgreSQL
//	base+1            the master's ocspsyncd, admin
//	base+2            the master's ocspsyncd, the feed
//	base+10*(i+1)     site i (from 0): ocspd, public
//	base+10*(i+1)+1   ocspd, admin
//	base+10*(i+1)+2   PostgreSQL
//	base+10*(i+1)+3   ocspsyncd, admin
//	base+10*(i+1)+4   ocspsyncd, the relayed feed
type Ports int

func (p Ports) masterPostgres() int { return int(p) }
func (p Ports) masterSync() int     { return int(p) + 1 }
func (p Ports) masterFeed() int     { return int(p) + 2 }
func (p Ports) public(site int) int { return int(p) + 10*(site+1) }
func (p Ports) admin(site int) int  { return p.public(site) + 1 }
func (p Ports) postgres(site int) int {
	return p.public(site) + 2
}
func (p Ports) sync(site int) int { return p.public(site) + 3 }
func (p Ports) feed(site int) int { return p.public(site) + 4 }

// all returns every port of a fleet of so many sites.
func (p Ports) all(sites int) []int {
	ports := []int{p.masterPostgres(), p.masterSync(), p.masterFeed()}
	for i := range sites {
		ports = append(ports, p.public(i), p.admin(i), p.postgres(i), p.sync(i), p.feed(i))
	}
	return ports
}

func checkPlan(base, sites int) error {
	for _, port := range Ports(base).all(sites) {
		if port < 1024 || port > 65535 {
			return usagef("BASE_PORT=%d (--base-port) leads to port %d: want ports between 1024 and 65535", base, port)
		}
		if port == reservedPort {
			return usagef("BASE_PORT=%d (--base-port) leads to port %d, which is reserved: choose another", base, port)
		}
	}
	return nil
}

// checkPorts says which port of the plan something else holds.
func checkPorts(base, sites int) error {
	for _, port := range Ports(base).all(sites) {
		l, err := net.Listen("tcp4", address(port))
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return fmt.Errorf("port %d on 127.0.0.1 is taken by another program: stop that one, or choose other ports with BASE_PORT (--base-port)", port)
		case err != nil:
			return fmt.Errorf("trying port %d: %w", port, err)
		}
		if err := l.Close(); err != nil {
			return fmt.Errorf("trying port %d: %w", port, err)
		}
	}
	return nil
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func url(port int) string { return "http://" + address(port) }

// FreeBasePort finds a base whose whole plan is free now: for tests and benches,
// which must not meet a developer's fleet. It looks below the ports that tests of
// PostgreSQL and outgoing connections use.
func FreeBasePort(sites int) (int, error) {
	const first, last, step = 19100, 21700, 100
	for _, n := range rand.Perm((last - first) / step) {
		base := first + n*step
		if sites < step/10 && checkPorts(base, sites) == nil {
			return base, nil
		}
	}
	return 0, fmt.Errorf("looking for the free ports of %d sites between %d and %d: none found", sites, first, last)
}
