package ctl

import (
	"context"
	"errors"

	"ocspfleet/db/masterdb"
)

// Limit is the result of the fleet's hourly limit for an import.
type Limit struct {
	Counted   int64 `json:"counted"`              // revocations of certificates that are good at the master
	PerHour   int64 `json:"revocations_per_hour"` // of one login
	Used      int64 `json:"used_in_the_last_hour"`
	Allowance int64 `json:"allowance"` // what this login was approved beyond it
	Missing   int64 `json:"missing"`   // revocations that need an approval first; 0: none

	Refused error `json:"-"` // what the master says then
}

// LimitOf checks all of an import's revocations as if they were one transaction, so that it does
// not stop in the middle.
func LimitOf(ctx context.Context, store *masterdb.DB, counted int64) (Limit, error) {
	l, err := store.Limit(ctx)
	if err != nil {
		return Limit{}, err
	}
	v := Limit{Counted: counted, PerHour: l.PerHour, Used: l.Mine, Allowance: l.Allowance}
	err = store.TryLimit(ctx, counted)
	if over := (*masterdb.OverLimit)(nil); errors.As(err, &over) {
		v.Missing, v.Refused = over.Missing, err
		return v, nil
	}
	return v, err
}
