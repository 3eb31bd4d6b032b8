package masterdb

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// DNSStage says how far a change of the DNS is.
type DNSStage string

// The stages. Begin is noted before the change is requested: a change with no later entry may have
// been done or not.
const (
	DNSBegin  DNSStage = "begin"
	DNSDone   DNSStage = "done"
	DNSFailed DNSStage = "failed"
	DNSSpread DNSStage = "spread" // every server has the withdrawal, at all names
)

// DNSNote is the audit's content on a site's addresses at one name in the DNS.
type DNSNote struct {
	Site      string
	Publish   bool // false: they are withdrawn
	Name      string
	Addresses []netip.Addr
	TTL       time.Duration // of the records before: how long resolvers may keep them
	Stage     DNSStage
	Detail    string // for people
}

// NoteDNS writes a change of the DNS into the audit, and stores the withdrawn addresses, so that
// exactly these are published again.
func (s *Sites) NoteDNS(ctx context.Context, n DNSNote, act db.Act) error {
	action := "withdraw"
	if n.Publish {
		action = "publish"
	}
	return s.pool.Do(ctx, fmt.Sprintf("noting a change of the DNS for site %q", n.Site), "select responder_dns_record($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		n.Site, action, n.Name, n.Addresses, n.TTL, n.Stage, n.Detail, act.Why, act.User)
}

// DNSAddress is an address that a name in the DNS had.
type DNSAddress struct {
	Name    string
	Address netip.Addr
	Held    *time.Time // until then resolvers may return it; nil: not every server has the change
}

// Withdrawn lists the addresses that were removed from the DNS with a site and not published
// again.
func (s *Sites) Withdrawn(ctx context.Context, site string) ([]DNSAddress, error) {
	return pg.List(ctx, s.pool, fmt.Sprintf("reading what left the DNS with site %q", site), pgx.RowToStructByPos[DNSAddress], "select name, address, held_until from responder_dns where site = $1 order by name, address", site)
}
