package logical

import (
	"context"
	"errors"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/upstream"
)

// talk asks the master for slots, head, schema and clock. If the master is away its clock is not
// measured; the last measurement stays and ages.
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
	s.access.Record(outer, err, upstream.IsAccessDenied(err))
	if err != nil {
		return
	}
	s.takeKeys(ctx)
	for _, slot := range s.probe.slots {
		if slot.Name == local.Slot {
			s.cfg.Metrics.slotLag.Set(float64(slot.LagBytes))
		}
	}
	s.subscriber.dropOrphans(outer, s.probe.slots, local.Slot)
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
	skew, judged, err := s.clock.Measure(ctx, s.cfg.Master.Clock)
	if judged {
		s.mu.Lock()
		s.state.Skew, s.state.SkewAt = skew, s.cfg.Now()
		s.mu.Unlock()
	}
	return err
}
