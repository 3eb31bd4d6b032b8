package main

import (
	"context"
	"errors"

	"ocspfleet/db"
)

// limitView is what the fleet's hourly limit says to an import.
type limitView struct {
	Counted   int64 `json:"counted"`              // revocations of certificates that are good at the master
	PerHour   int64 `json:"revocations_per_hour"` // of one login
	Used      int64 `json:"used_in_the_last_hour"`
	Allowance int64 `json:"allowance"` // what this login was approved beyond it
	Missing   int64 `json:"missing"`   // revocations that need an approval first; 0: none

	refused error // what the master says then
}

// limitOf has the master judge all of an import's revocations as if they were one
// transaction, so that it does not break off in its midst.
func limitOf(ctx context.Context, store *db.Store, counted int64) (limitView, error) {
	l, err := store.Limit(ctx)
	if err != nil {
		return limitView{}, err
	}
	v := limitView{Counted: counted, PerHour: l.PerHour, Used: l.Mine, Allowance: l.Allowance}
	err = store.TryLimit(ctx, counted)
	if over := (*db.OverLimit)(nil); errors.As(err, &over) {
		v.Missing, v.refused = over.Missing, err
		return v, nil
	}
	return v, err
}
