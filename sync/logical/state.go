package logical

import (
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

// Name is the state of a subscription; a closed set, also a metric's label.
type Name string

// The states of a subscription.
const (
	Starting          Name = "starting"           // nothing was read yet
	Seeding           Name = "seeding"            // the master's rows are being copied, or must be
	Streaming         Name = "streaming"          // as it should be
	Lagging           Name = "lagging"            // rows come, but not in time
	Stalled           Name = "stalled"            // no worker, or a silent one, while the master answers
	SlotLost          Name = "slot_lost"          // the master no longer keeps what comes next
	ApplyError        Name = "apply_error"        // the worker fails repeatedly
	Disabled          Name = "disabled"           // the subscription was switched off
	NotSynced         Name = "not_synced"         // head, tables or settings differ from what a seed sets up
	SchemaDrift       Name = "schema_drift"       // master and site do not fit together
	Diverged          Name = "diverged"           // the rows here differ from the head's counts
	RevocationsLost   Name = "revocations_lost"   // the master would take permanent revocations back
	MasterUnreachable Name = "master_unreachable" // neither this program nor the worker reaches it
	LocalUnreachable  Name = "local_unreachable"  // the site's own database is away, or cannot be read
)

// Names lists all states.
var Names = []Name{
	Starting, Seeding, Streaming, Lagging, Stalled, SlotLost, ApplyError, Disabled, NotSynced,
	SchemaDrift, Diverged, RevocationsLost, MasterUnreachable, LocalUnreachable,
}

// State is a snapshot of a subscription's state.
type State struct {
	Name     Name
	Since    time.Time // when Name was entered
	Detail   string    // for people
	Epoch    int64     // of the local head, as are the next two
	Position int64
	AsOf     time.Time
	Skew     time.Duration // this site's clock minus the master's, as of SkewAt
	SkewAt   time.Time     // zero: never measured
	Reseeds  int           // completed seeds
}

// Trouble is the text of /readyz; empty: rows come in, the site keeps up with the master.
func (s State) Trouble() string {
	if s.Name == Streaming {
		return ""
	}
	return fmt.Sprintf("%s since %s: %s", s.Name, s.Since.UTC().Format("2006-01-02T15:04:05Z"), s.Detail)
}

// probe is the result of the last query to the master.
type probe struct {
	at    time.Time // its end; zero: none since the last seed
	err   error
	slots []db.Slot
	head  db.Head
	drift string
}

// sight is everything that diagnose uses.
type sight struct {
	now      time.Time
	local    sitedb.Subscription
	localErr error
	probe    probe
	diverged string        // what a recount found; empty: nothing
	unread   string        // why the copy cannot be counted; empty: it can
	refused  string        // why the last seed was refused; empty: it was not
	broke    string        // why the last seed failed; empty: it did not
	skew     time.Duration // this site's clock minus the master's, 0 if unknown

	workerGone time.Duration // how long there was no worker, 0 if there is one
	silent     time.Duration // how long the worker received nothing
	failures   int64         // of the worker since its last progress
}

// limits are the configured times that diagnose needs.
type limits struct {
	site              string
	stall, lag, fresh time.Duration
}

// result is the result of diagnose: the state, and what to do about it.
type result struct {
	name   Name
	detail string
	enable bool   // enable the subscription again
	seed   string // copy again, for this reason (a closed set, a metric's label)
}

// diagnose is the whole diagnosis. It is pure.
func diagnose(s sight, l limits) result {
	v := cause(s, l)
	switch {
	case v.seed != "" && s.refused != "":
		v.name, v.detail = RevocationsLost, s.refused+" (wanted since: "+v.detail+")"
	case v.seed != "" && s.broke != "":
		v.detail += ", and the last copy broke off: " + s.broke
	}
	return v
}

// cause goes from faults that hide all others down to small delays.
func cause(s sight, l limits) result {
	masterDown := s.probe.err != nil
	switch {
	case s.localErr != nil:
		return result{name: LocalUnreachable, detail: s.localErr.Error()}
	case s.probe.drift != "":
		return result{name: SchemaDrift, detail: s.probe.drift}
	case !s.local.Exists || !s.local.HasHead || s.local.Wrong != "" || !ours(s.local.Slot, l.site) ||
		s.local.Tables != sitedb.Tables || s.local.InStep != sitedb.Tables:
		return unsound(s, l)
	case !s.local.Enabled:
		return result{name: Disabled, detail: "somebody disabled the subscription", enable: true}
	case masterDown && (s.workerGone > 0 || s.silent > l.lag):
		return result{name: MasterUnreachable, detail: s.probe.err.Error()}
	}
	if !s.probe.at.IsZero() && !masterDown {
		if lost := slotLost(s.local.Slot, s.probe.slots); lost != "" {
			return result{name: SlotLost, detail: lost, seed: string(SlotLost)}
		}
	}
	if s.diverged != "" {
		return result{name: Diverged, detail: s.diverged, seed: string(Diverged)}
	}
	if s.unread != "" {
		return result{name: LocalUnreachable, detail: s.unread}
	}
	return moving(s, l)
}

// unsound checks whether a subscription differs from what a seed sets up.
func unsound(s sight, l limits) result {
	var v result
	switch {
	case !s.local.Exists && !s.local.HasHead:
		v = result{name: Seeding, detail: "this site was never seeded", seed: "first"}
	case !s.local.Exists:
		v = result{name: NotSynced, detail: "there is no subscription", seed: "not_subscribed"}
	case !s.local.HasHead:
		v = result{name: NotSynced, detail: "the head row is gone", seed: "no_head"}
	case s.local.Wrong != "":
		v = result{name: NotSynced, detail: "the subscription is set otherwise than we do: " + s.local.Wrong, seed: "settings"}
	case !ours(s.local.Slot, l.site):
		v = result{name: NotSynced, detail: fmt.Sprintf("the subscription follows slot %q, which is not one of site %s", s.local.Slot, l.site), seed: "settings"}
	default:
		v = result{name: NotSynced, detail: fmt.Sprintf("%d of %d tables are in step", s.local.InStep, s.local.Tables), seed: string(NotSynced)}
	}
	if s.probe.err != nil {
		return result{name: MasterUnreachable, detail: v.detail + ", and a copy cannot be had: " + s.probe.err.Error()}
	}
	return v
}

// moving checks how rows come in through a sound subscription.
func moving(s sight, l limits) result {
	known := !s.probe.at.IsZero() && s.probe.err == nil
	ahead := known && (s.probe.head.Position > s.local.Position || s.probe.head.AsOf.After(s.local.AsOf))
	if s.failures >= 2 && ahead {
		v := result{name: ApplyError, detail: fmt.Sprintf(
			"the worker failed %d times at position %d, the master is at %d: the site's PostgreSQL log says at which row", s.failures, s.local.Position, s.probe.head.Position)}
		if s.failures >= 3 { // one failure more than it takes to report it: a person may repair by hand
			v.seed = string(ApplyError)
		}
		return v
	}
	age := s.local.Clock.Add(-s.skew).Sub(s.local.AsOf)
	switch {
	case s.workerGone > l.stall:
		return result{name: Stalled, detail: fmt.Sprintf("no apply worker for %v", s.workerGone.Round(time.Second))}
	case s.silent > l.stall:
		return result{name: Stalled, detail: fmt.Sprintf("the worker heard nothing for %v", s.silent.Round(time.Second))}
	case s.workerGone > l.fresh:
		return result{name: Lagging, detail: "the apply worker is not running"}
	case age > l.lag && known && !s.probe.head.AsOf.After(s.local.AsOf):
		return result{name: Lagging, detail: fmt.Sprintf("the master confirmed its own head %v ago: is its ocspsyncd running?", age.Round(time.Second))}
	case age > l.lag:
		return result{name: Lagging, detail: fmt.Sprintf("the copy is %v old", age.Round(time.Second))}
	}
	return result{name: Streaming}
}
