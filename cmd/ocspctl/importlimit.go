package main

import (
	"context"
	"fmt"

	"ocspfleet/db"
)

// limitView is what the fleet's hourly limit says to an import.
type limitView struct {
	Counted   int64 `json:"counted"`              // revocations of certificates that are good at the master
	PerHour   int64 `json:"revocations_per_hour"` // of one login
	Used      int64 `json:"used_in_the_last_hour"`
	Allowance int64 `json:"allowance"` // what this login was approved beyond it
	Missing   int64 `json:"missing"`   // revocations that need an approval first; 0: none
}

// limitOf compares with the limit as it is now. Only the master, when it commits, is exact.
func limitOf(ctx context.Context, store *db.Store, counted int64) (limitView, error) {
	l, err := store.Limit(ctx)
	if err != nil {
		return limitView{}, err
	}
	return limitView{counted, l.PerHour, l.Mine, l.Allowance, max(0, counted-l.RoomOthers-l.Allowance)}, nil
}

// warning is for the plan; "": all is well.
func (v limitView) warning() string {
	if v.Missing == 0 {
		return ""
	}
	return fmt.Sprintf("OVER THE LIMIT: it revokes %d that are good, and a login revokes at most %d certificates an hour on one person's word (this one %d in the last hour, and %d more are allowed to it).\n"+
		"First two persons agree: ocspctl approval request bulk --count %d --why TEXT --apply", v.Counted, v.PerHour, v.Used, v.Allowance, v.Missing)
}

// refusal keeps an import from breaking off in its midst.
func (v limitView) refusal(file string) error {
	if v.Missing == 0 {
		return nil
	}
	return fmt.Errorf("importing %s: it revokes %d that are good, and a login revokes at most %d certificates an hour on one person's word: this one %d in the last hour, and %d more are allowed to it; nothing was done: run ocspctl approval request bulk --count %d --why TEXT --apply first",
		file, v.Counted, v.PerHour, v.Used, v.Allowance, v.Missing)
}
