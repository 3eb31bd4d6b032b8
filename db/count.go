package db

import (
	"fmt"
	"strings"
)

// Count is a table's tally by a full recount, with the head's tally.
type Count struct {
	Table     string
	Counted   Tally
	Head      Tally
	Identical bool
}

// Differences names the tables whose rows differ from the head's counts; empty: none.
func Differences(counts []Count) string {
	var wrong []string
	for _, c := range counts {
		if !c.Identical {
			wrong = append(wrong, fmt.Sprintf("%s has %d rows with digest %016x, the head says %d with %016x",
				c.Table, c.Counted.Count, uint64(c.Counted.Digest), c.Head.Count, uint64(c.Head.Digest)))
		}
	}
	return strings.Join(wrong, "; ")
}
