package db

import (
	"fmt"
	"strings"
)

// Count is a table's tally by a full recount beside what the head says.
type Count struct {
	Table     string
	Counted   Tally
	Head      Tally
	Identical bool
}

// Differences tells the tables whose rows are not those that the head counts; empty: none.
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
