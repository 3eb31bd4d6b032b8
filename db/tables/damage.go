package tables

import (
	"ocspfleet/db/internal/pg"
)

// Damaged says that PostgreSQL found damaged pages of its own (XX001, XX002): rows of the copy are
// lost, and waiting does not bring them back.
func Damaged(err error) bool { return pg.IsCode(err, "XX001", "XX002") }
