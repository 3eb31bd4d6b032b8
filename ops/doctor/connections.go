package doctor

import (
	"context"
	"strings"

	"ocspfleet/db/tables"
)

// connections checks whether one login can use up the connections of others.
func (f *results) connections(ctx context.Context, store *tables.DB) {
	c, err := store.ConnectionLimits(ctx)
	if err != nil {
		f.fail("connections", "look at the login's rights", "%v", err)
		return
	}
	free := c.Max - c.Reserved
	if len(c.Unlimited) > 0 {
		f.warn("connections", "as a superuser: alter role NAME connection limit N (or ocspctl db user add NAME anew)", "no limit is set for %s: it can take all %d and keep everybody out", strings.Join(c.Unlimited, ", "), free)
	}
	if c.Sum > free {
		f.warn("connections", "raise max_connections and restart PostgreSQL, or lower a limit (ocspctl db user add --connections)",
			"%d logins may take %d together, and there are %d (max_connections less what is reserved for superusers): one can keep another out", c.Logins, c.Sum, free)
	}
	if c.Fit() {
		f.ok("connections", "%d logins may take %d together, of %d", c.Logins, c.Sum, free)
	}
}
