package main

import (
	"context"
	"fmt"
	"time"

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

// examineZone is what doctor asks of it.
func examineZone(ctx context.Context, d config.DNS, now func() time.Time) (string, error) {
	z, err := d.Open(now)
	if err != nil {
		return "", err
	}
	serial, err := z.Serial(ctx)
	if err != nil {
		return "", err
	}
	if err := z.CheckKey(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("zone %s has serial %d at %s, which takes our key", z.Name(), serial, z.Server()), nil
}
