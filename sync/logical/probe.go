package logical

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

// orphanAge is when an unused slot of this site is dropped: a seed that is still
// being made by another process of ours has a younger one.
const orphanAge = time.Hour

// maxRoundTrip is the longest talk that a clock is judged by; half of it is the
// error of the judgement.
const maxRoundTrip = 10 * time.Second

// talk asks the master for slots, head, schema and clock. The master away: no
// measurement of its clock, the last one stands and ages.
func (s *Subscription) talk(ctx context.Context, local sitedb.Subscription) {
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, s.cfg.MasterTimeout)
	defer cancel()
	err := s.ask(ctx)
	if err == nil {
		err = s.measureSkew(ctx)
	}
	s.probe.at, s.probe.err = s.cfg.Now(), err
	s.probeDue = s.probe.at.Add(s.cfg.ProbeInterval)
	s.recordAccess(outer, err)
	if err != nil {
		return
	}
	s.takeKeys(ctx)
	for _, slot := range s.probe.slots {
		switch {
		case slot.Name == local.Slot:
			s.cfg.Metrics.slotBytes(slot.LagBytes)
		case db.IsFilesSlot(slot.Name): // Files has its own
		case !slot.Active && s.age(slot.Name) > orphanAge:
			s.dropSlot(outer, slot.Name)
		}
	}
}

// accessDenied is what ocspd is told when the master closed this site's login.
const accessDenied = "the master does not let this site in any more: it was suspended or revoked, or has left (the CA's staff: ocspctl responder show)"

// recordAccess tells ocspd when the master knows this site and refuses it: the news
// of its revocation may never have come, so it says neither good nor unknown. Only
// a talk that succeeds takes it back; a master that is away says nothing.
func (s *Subscription) recordAccess(ctx context.Context, err error) {
	why := ""
	switch {
	case sitedb.IsAccessDenied(err):
		why = accessDenied
	case err != nil:
		return
	}
	s.act(ctx, "noting whether the master lets us in", func(ctx context.Context) error { return s.cfg.Local.SetAccessDenied(ctx, why) })
}

func (s *Subscription) ask(ctx context.Context) error {
	slots, err := s.cfg.Master.Slots(ctx, s.cfg.Site)
	if err != nil {
		return err
	}
	head, err := s.cfg.Master.Head(ctx)
	if errors.Is(err, db.ErrNoHead) {
		return fmt.Errorf("%w: run ocspctl db init at the master", err)
	}
	if err != nil {
		return err
	}
	drift, err := s.cfg.Local.Drift(ctx, s.cfg.Master)
	if err != nil {
		return err
	}
	s.probe.slots, s.probe.head, s.probe.drift = slots, head, drift
	return nil
}

// measureSkew compares this site's clock with the master's by a round trip.
func (s *Subscription) measureSkew(ctx context.Context) error {
	before := s.cfg.Now()
	master, err := s.cfg.Master.Clock(ctx)
	if err != nil {
		return err
	}
	after := s.cfg.Now()
	trip := after.Sub(before)
	if trip < 0 || trip > maxRoundTrip {
		return nil // our clock was set meanwhile, or the line is too slow to judge by
	}
	skew := before.Add(trip / 2).Sub(master)
	s.mu.Lock()
	s.state.Skew, s.state.SkewAt = skew, after
	s.mu.Unlock()
	s.act(ctx, "recording the clock skew", func(ctx context.Context) error { return s.cfg.Local.SetSkew(ctx, skew, after) })
	return nil
}

// newSlot names a slot by the time of its making.
func (s *Subscription) newSlot() string {
	return db.SlotPrefix(s.cfg.Site) + strconv.FormatInt(s.cfg.Now().UnixMilli(), 10)
}

// age is how long ago a slot of ours was made, by its name.
func (s *Subscription) age(slot string) time.Duration {
	ms, err := strconv.ParseInt(strings.TrimPrefix(slot, db.SlotPrefix(s.cfg.Site)), 10, 64)
	if err != nil {
		return 0 // not made by us
	}
	return s.cfg.Now().Sub(time.UnixMilli(ms))
}

// dropSlot drops a slot that this site needs no more. A failure is no matter: an
// orphan is found again.
func (s *Subscription) dropSlot(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.MasterTimeout)
	defer cancel()
	if err := s.cfg.Master.DropSlot(ctx, name); err != nil {
		s.cfg.Log.WarnContext(ctx, "old slot not dropped", slog.String("slot", name), slog.String("error", err.Error()))
		return
	}
	s.cfg.Log.InfoContext(ctx, "old slot dropped", slog.String("slot", name))
}
