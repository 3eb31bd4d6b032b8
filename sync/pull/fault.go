package pull

import (
	"errors"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
)

// The faults of a source. Each is a reason to ask another one.
var (
	ErrStale    = errors.New("its newest checkpoint is too old")
	ErrFuture   = errors.New("its checkpoint is of the future")
	ErrRollback = feed.ErrRollback
	ErrFork     = errors.New("it contradicts what was signed before")
	ErrGap      = feed.ErrGap
	ErrMixed    = feed.ErrMixed
)

// Fault is the reason why a source was left: a closed set, a metric's label.
type Fault string

// The faults of a source, and the one of this site itself.
const (
	Unreachable Fault = "unreachable" // no connection, or it broke
	Refused     Fault = "refused"     // one side does not know the other's TLS key
	Slow        Fault = "slow"        // slow or silent
	Endless     Fault = "endless"     // more than any answer has
	Malformed   Fault = "malformed"   // no answer of a feed, or not of the form
	Forged      Fault = "forged"      // not signed by the required key
	Rollback    Fault = "rollback"    // an older history
	Gap         Fault = "gap"         // files are missing
	Forked      Fault = "fork"        // two signed histories
	Frozen      Fault = "freeze"      // signed, but old
	FastForward Fault = "future"      // signed for a time to come
	Mixed       Fault = "mixed"       // one file in the place of another
	Unrevoked   Fault = "unrevoked"   // a permanent revocation would be taken back
	Local       Fault = "local"       // this site's database: no source's fault
)

// Faults lists all faults.
var Faults = []Fault{
	Unreachable, Refused, Slow, Endless, Malformed, Forged, Rollback, Gap, Forked, Frozen, FastForward, Mixed, Unrevoked, Local,
}

// errLocal marks a failure at this site, whatever the source sent.
var errLocal = errors.New("this site's database")

func local(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errLocal, err)
}

// FaultOf classifies an error. An unknown error comes from the network.
func FaultOf(err error) Fault {
	for _, known := range []struct {
		err   error
		fault Fault
	}{
		{ErrFork, Forked},
		{ErrRollback, Rollback},
		{ErrMixed, Mixed},
		{db.ErrRevocationsLost, Unrevoked},
		{ErrStale, Frozen},
		{ErrFuture, FastForward},
		{ErrGap, Gap},
		{db.ErrNotFound, Gap},
		{sitedb.ErrDiverged, Forged},
		{feed.ErrOlderEpoch, Rollback},
		{feed.ErrForged, Forged},
		{feed.ErrNewerKeys, Forged},
		{feed.ErrEpoch, Forged},
		{feedhttp.ErrPin, Refused},
		{feedhttp.ErrSlow, Slow},
		{feedhttp.ErrEndless, Endless},
		{feedhttp.ErrSource, Malformed},
		{feed.ErrForm, Malformed},
		{errLocal, Local},
	} {
		if errors.Is(err, known.err) {
			return known.fault
		}
	}
	return Unreachable
}
