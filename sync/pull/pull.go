// Package pull keeps a site's copy in step by the signed feed: it asks sources,
// verifies, applies, and goes on from what it stored. It also is what a relay
// shows: whatever it verified stands in the site's database, to be served.
//
// It trusts the pinned feed root and nobody else. A source can withhold, never
// alter: rollback, gap, fork, freeze and mix-and-match are refused, and another
// source is asked. Two signed statements that contradict each other are kept as
// evidence, and never stop the site: its copy ages.
//
// It promises that rows, horizon and digests change together or not at all, that
// the old copy stays until a new one is whole and agrees with what was signed,
// and that no copy takes back a permanent revocation that this site knew.
package pull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"ocspfleet/db"
	"ocspfleet/sync/feed"
)

// Config says whom to ask and what to believe. A zero duration stands for its default.
type Config struct {
	// Store is the site's database, by a login in ocsp_sync.
	Store *db.Store
	// Origin of the feed, and its root's key, both pinned.
	Origin string
	Root   note.Verifier
	// Sources in the order of preference: the master, then peers.
	Sources []*feed.Client
	// Board is told of each checkpoint that was applied, for the relay. May be nil.
	Board *feed.Board
	// Wait is the long poll. Default 75 s: an idle master speaks each minute.
	Wait time.Duration
	// StaleAfter is how old a source's newest checkpoint may be before the next
	// source is asked. Default 3 min, three confirmations.
	StaleAfter time.Duration
	// Backoff is the pause after a source failed; it doubles up to 64 times.
	// Default 1 s.
	Backoff time.Duration
	// Recount is how often the whole copy is recounted, between two polls. Default
	// 1 min, but never more than a hundredth of the time.
	Recount time.Duration
	// Mirror keeps the signed files, to be relayed and for ocspd to judge the copy
	// by, and leaves the rows alone: they come by native replication.
	Mirror bool
	// Log gets changes of source, seeds and what is wrong with a source.
	Log *slog.Logger
	// Now is the site's clock. Default time.Now.
	Now func() time.Time
}

// Bounds.
const (
	// maxAhead is how far a checkpoint may lie in this site's future.
	maxAhead = 5 * time.Minute
	// maxBehind is how many segments are fetched one by one; who is further
	// behind takes a snapshot.
	maxBehind = 20_000
	// applyTimeout bounds one step at the site's database.
	applyTimeout = 5 * time.Minute
	// seedTimeout bounds a seed: 140 M certificates over a slow line take hours.
	seedTimeout = 12 * time.Hour
)

// What is wrong with a source. Each is a reason to ask another one.
var (
	ErrStale    = errors.New("its newest checkpoint is too old")
	ErrFuture   = errors.New("its checkpoint is of the future")
	ErrRollback = errors.New("it shows an older history than this site has")
	ErrFork     = errors.New("it contradicts what was signed before")
)

// Puller follows the feed. Run is called once; State is safe for concurrent use.
type Puller struct {
	cfg Config

	mu    sync.Mutex // guards state
	state State
	check atomic.Bool // somebody asked for a recount

	// What follows belongs to Run's goroutine.
	keys   *feed.KeySet
	copy   db.FeedCopy
	reseed string // why the copy must be seeded anew; empty: it need not
	// diverged says how the copy differs from what was signed; empty: it does not.
	diverged   string
	recountDue time.Time
	sources    []source
}

// source is what Run knows of one source.
type source struct {
	client *feed.Client
	tag    string        // of the checkpoint it showed last
	fault  string        // why it was left
	pause  time.Duration // of the last back-off
	due    time.Time     // not asked before
}

// State is what a Puller is doing, for /readyz.
type State struct {
	Source   string // asked last
	Position int64
	AsOf     time.Time
	Trouble  string // empty: the copy is in step
}

// New checks the configuration.
func New(cfg Config) (*Puller, error) {
	if err := feed.CheckOrigin(cfg.Origin); err != nil {
		return nil, err
	}
	if len(cfg.Sources) == 0 {
		return nil, errors.New("the feed has no source")
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&cfg.Wait, 75 * time.Second}, {&cfg.StaleAfter, 3 * time.Minute}, {&cfg.Backoff, time.Second}, {&cfg.Recount, time.Minute}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Board == nil {
		cfg.Board = &feed.Board{}
	}
	p := &Puller{cfg: cfg, state: State{Trouble: "nothing was fetched yet"}}
	for _, client := range cfg.Sources {
		p.sources = append(p.sources, source{client: client})
	}
	return p, nil
}

// State returns what the puller is doing.
func (p *Puller) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Run follows the feed until ctx ends; it returns nil then. Databases and sources
// that are away are waited for.
func (p *Puller) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		timer.Reset(p.step(ctx))
	}
}

// step asks the best source that is due, once, and returns how long to pause.
func (p *Puller) step(ctx context.Context) time.Duration {
	if err := errors.Join(p.load(ctx), p.recount(ctx)); err != nil {
		p.enter("", err.Error())
		return p.cfg.Backoff
	}
	now := p.cfg.Now()
	best, next := -1, time.Duration(0)
	for i, s := range p.sources {
		if !now.Before(s.due) {
			best = i
			break
		}
		if wait := s.due.Sub(now); next == 0 || wait < next {
			next = wait
		}
	}
	if best < 0 {
		return next
	}
	s := &p.sources[best]
	err := p.ask(ctx, s)
	if ctx.Err() != nil {
		return p.cfg.Backoff
	}
	if err == nil {
		if s.fault != "" {
			p.cfg.Log.InfoContext(ctx, "source is used again", slog.String("source", s.client.String()))
		}
		s.fault, s.pause = "", 0
		p.enter(s.client.String(), "")
		return 0
	}
	s.pause = min(max(2*s.pause, p.cfg.Backoff), 64*p.cfg.Backoff)
	s.due, s.tag = now.Add(s.pause), ""
	if fault := err.Error(); fault != s.fault {
		s.fault = fault
		p.cfg.Log.WarnContext(ctx, "source left", slog.String("source", s.client.String()), slog.String("error", fault))
	}
	p.enter(s.client.String(), err.Error())
	return 0
}

// load reads what is stored: a step may have failed and yet have been persisted.
func (p *Puller) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	var err error
	if p.copy, err = p.loadCopy(ctx); err != nil {
		return err
	}
	if p.keys == nil {
		_, signed, err := p.cfg.Store.FeedKeys(ctx)
		if errors.Is(err, db.ErrNotSealed) {
			return nil // the first source brings one
		}
		if err != nil {
			return err
		}
		if p.keys, err = feed.OpenKeySet(signed, p.cfg.Origin, p.cfg.Root); err != nil {
			p.cfg.Log.ErrorContext(ctx, "stored key set is not believed", slog.String("error", err.Error()))
		}
	}
	if p.copy.Anchored && p.cfg.Board.Newest().Note == nil {
		if n, err := p.cfg.Store.FeedNote(ctx); err == nil {
			p.cfg.Board.Post(n)
		}
	}
	return nil
}

func (p *Puller) enter(source, trouble string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = State{Source: source, Position: p.copy.Head.Position, AsOf: p.copy.Head.AsOf, Trouble: trouble}
}

// ask takes what one source has to give.
func (p *Puller) ask(ctx context.Context, s *source) error {
	if p.keys == nil {
		if err := p.renewKeys(ctx, s.client); err != nil {
			return err
		}
	}
	wait, after := p.cfg.Wait, p.copy.Head.Position
	if s.tag == "" {
		wait, after = 0, 0 // how far is it at all?
	}
	signed, tag, err := s.client.Checkpoint(ctx, after, s.tag, wait)
	if err != nil {
		return err
	}
	if signed == nil { // nothing new in all that time
		if age := p.cfg.Now().Sub(p.copy.Head.AsOf); age > p.cfg.StaleAfter {
			return fmt.Errorf("%w: %v", ErrStale, age.Round(time.Second))
		}
		return nil
	}
	c, err := p.open(ctx, s.client, signed)
	if err != nil {
		return err
	}
	if err := p.follow(ctx, s.client, c, signed); err != nil {
		return err
	}
	s.tag = tag
	return nil
}

// open verifies a checkpoint, with a newer key set if one is needed.
func (p *Puller) open(ctx context.Context, from *feed.Client, signed []byte) (*feed.Checkpoint, error) {
	c, err := p.keys.OpenCheckpoint(signed)
	if errors.Is(err, feed.ErrForged) || errors.Is(err, feed.ErrNewerKeys) || errors.Is(err, feed.ErrEpoch) {
		if renewErr := p.renewKeys(ctx, from); renewErr != nil {
			return nil, errors.Join(err, renewErr)
		}
		c, err = p.keys.OpenCheckpoint(signed)
	}
	return c, err
}

// renewKeys fetches a key set and keeps it if it is newer.
func (p *Puller) renewKeys(ctx context.Context, from *feed.Client) error {
	signed, err := from.Keys(ctx)
	if err != nil {
		return err
	}
	k, err := feed.OpenKeySet(signed, p.cfg.Origin, p.cfg.Root)
	if err != nil {
		return err
	}
	if p.keys != nil && k.Number <= p.keys.Number {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if err := p.cfg.Store.KeepFeedKeys(ctx, k.Number, signed); err != nil {
		return err
	}
	p.cfg.Log.InfoContext(ctx, "key set taken", slog.Int64("number", k.Number), slog.Int64("epoch", k.Epoch), slog.String("source", from.String()))
	p.keys = k
	return nil
}
