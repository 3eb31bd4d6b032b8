package main

import (
	"context"
	"fmt"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/db"
	"ocspfleet/db/tables"
)

// connections is what db init says of max_connections.
type connections struct {
	Max      int `json:"max_connections"`
	Reserved int `json:"reserved"` // for superusers
	Logins   int `json:"logins"`   // of ours, so far
	Sum      int `json:"sum"`      // of their limits
}

func connectionsOf(ctx context.Context, settings tables.Config) (*connections, error) {
	store, err := tables.Open(ctx, settings)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	c, err := store.ConnectionLimits(ctx)
	if err != nil {
		return nil, err
	}
	return &connections{c.Max, c.Reserved, c.Logins, c.Sum}, nil
}

func (c connections) tell(t *cli.Table) {
	t.Line("")
	t.Line(fmt.Sprintf("Set max_connections to at least the sum of the logins' limits, and %d for superusers. It is %d; the sum is %d, of %d logins.", c.Reserved, c.Max, c.Sum, c.Logins))
	t.Line(fmt.Sprintf("Each db user add takes: a site that replicates %d, a daemon %d, a person %d, the CA's software %d. ocspctl doctor adds them up.",
		db.RoleReplica.Connections(), db.RoleSync.Connections(), db.RoleOperator.Connections(), db.RoleCA.Connections()))
}
