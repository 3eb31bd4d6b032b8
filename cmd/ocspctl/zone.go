package main

import (
	"fmt"

	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/ops/fleet"
)

// forWithdrawal is the DNS as the responder verbs use it. What is wrong with it is a
// fault of its own step alone: a revocation does not wait for it.
func (p *program) forWithdrawal(d config.DNS, force bool) fleet.DNS {
	dns := fleet.DNS{Dry: d.Dry, Force: force, Now: p.Now, Told: func(text string) { fmt.Fprintf(p.Stderr, "ocspctl: dns: %s\n", text) }}
	if d.Set() {
		dns.Zone, dns.Broken = d.Open(p.Now)
	}
	return dns
}
