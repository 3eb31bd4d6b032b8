package tables

import (
	"ocspfleet/db/internal/pg"
)

// Damaged says that PostgreSQL found its own pages damaged (XX001, XX002): rows of the
// copy are lost, and will not come back by waiting.
func Damaged(err error) bool { return pg.IsCode(err, "XX001", "XX002") }
