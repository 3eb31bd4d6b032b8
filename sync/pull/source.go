package pull

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"time"

	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
)

// source is what Run knows of one source.
type source struct {
	client *feedhttp.Client
	known  bool          // the source answered since it was left: long polls may begin
	fault  Fault         // why it was left; empty: it was not
	pause  time.Duration // of the last back-off
	due    time.Time     // not asked before
}

// choose returns the sources to ask now: the first source that is due, or a pair of peers. It
// returns none if all must be left alone for a while.
func (p *Puller) choose(now time.Time) []*source {
	var due []*source
	for i := range p.sources {
		if !now.Before(p.sources[i].due) {
			due = append(due, &p.sources[i])
		}
	}
	if len(due) == 0 {
		return nil
	}
	if !p.cfg.PreferPeers || len(p.sources) == 1 {
		p.near.Store(due[0] == &p.sources[0])
		return due[:1]
	}
	chosen := p.choosePeers(due, now)
	p.near.Store(slices.Contains(chosen, &p.sources[0]))
	return chosen
}

// nextDue returns the time until a left source may be tried again.
func (p *Puller) nextDue(now time.Time) time.Duration {
	next := time.Duration(math.MaxInt64)
	for _, s := range p.sources {
		if wait := s.due.Sub(now); wait > 0 {
			next = min(next, wait)
		}
	}
	if next == math.MaxInt64 {
		return p.cfg.Backoff
	}
	return next
}

// left notes the fault of a source, and doubles its pause each time.
func (p *Puller) left(ctx context.Context, s *source, err error) {
	fault := FaultOf(err)
	p.recordAccess(ctx, s.client, err)
	p.cfg.Metrics.faulty(fault)
	s.pause = min(max(2*s.pause, p.cfg.Backoff), 64*p.cfg.Backoff)
	s.due, s.known = p.cfg.Now().Add(s.pause), false
	if fault != s.fault { // one line for each fault, not for each attempt
		s.fault = fault
		p.cfg.Log.WarnContext(ctx, "source left", slog.String("source", s.client.String()), slog.String("fault", string(fault)), slog.String("error", err.Error()))
	}
	p.enter(s.client.String(), err)
}

func (p *Puller) good(ctx context.Context, s *source) {
	if s.fault != "" {
		p.cfg.Log.InfoContext(ctx, "source is used again", slog.String("source", s.client.String()))
	}
	s.fault, s.pause, s.known = "", 0, true
	p.cfg.Metrics.uses(p.sources, s)
	p.enter(s.client.String(), nil)
}

// forgetAll makes the next step ask all sources at once, without a long poll.
func (p *Puller) forgetAll() {
	for i := range p.sources {
		p.sources[i].known = false
	}
}

// heard is the answer of one source.
type heard struct {
	from *source
	news *feedhttp.News // nil: nothing new
	err  error
}

// ask takes the first news of the chosen sources. It returns the source that sent the news, or
// failed.
func (p *Puller) ask(ctx context.Context, chosen []*source) (*source, error) {
	first := chosen[0]
	if p.keys == nil {
		if err := p.renewKeys(ctx, first.client); err != nil {
			return first, err
		}
	}
	p.askForKeys(ctx, chosen)
	poll, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan heard, len(chosen))
	for _, s := range chosen {
		ask := p.question(s, len(chosen) > 1)
		go func() {
			news, err := ask(poll)
			answers <- heard{s, news, err}
		}()
	}
	var quiet *source
	var failed heard
	for range chosen {
		h := <-answers
		if h.err == nil {
			p.recordAccess(ctx, h.from.client, nil)
		}
		switch {
		case h.err == nil && h.news != nil:
			return h.from, p.use(ctx, h)
		case h.err == nil:
			quiet = h.from
		case errors.Is(h.err, feedhttp.ErrAccessDenied): // its result must not wait for the other source
			return h.from, h.err
		default:
			if failed.from != nil && ctx.Err() == nil {
				p.left(ctx, failed.from, failed.err)
			}
			failed = h
		}
	}
	if quiet == nil {
		return failed.from, failed.err
	}
	if failed.from != nil && ctx.Err() == nil {
		p.left(ctx, failed.from, failed.err)
	}
	return quiet, stale(p.cfg.Now(), p.copy.Head.AsOf, p.cfg.StaleAfter)
}

// question returns the question to one source. It runs beside others, and changes nothing.
func (p *Puller) question(s *source, paired bool) func(context.Context) (*feedhttp.News, error) {
	wait, after, seen := p.pollTimeout(s), p.copy.Head.Position, p.cfg.Latest.Newest().Note
	if seen == nil || !s.known && !paired || p.access.Denied() && s.client.Master() {
		wait, after, seen = 0, 0, nil // first learn how far the source is
	}
	client, keys := s.client, p.keys.Number
	return func(ctx context.Context) (*feedhttp.News, error) { return client.News(ctx, after, seen, keys, wait) }
}

// use verifies news and applies them to the copy.
func (p *Puller) use(ctx context.Context, h heard) error {
	c, err := p.open(ctx, h.from.client, h.news.Note)
	if err != nil {
		return err
	}
	p.sent = map[int64]feed.Sealed{}
	for i, sealed := range h.news.Segments {
		p.sent[c.Number-int64(len(h.news.Segments)-1-i)] = sealed
	}
	defer func() { p.sent = nil }()
	return p.follow(ctx, h.from.client, c, h.news.Note)
}

// segment returns a segment that came with the news, or fetches it.
func (p *Puller) segment(ctx context.Context, from *feedhttp.Client, epoch, number int64) (feed.Sealed, error) {
	if sealed, came := p.sent[number]; came {
		return sealed, nil
	}
	return from.Segment(ctx, epoch, number)
}
