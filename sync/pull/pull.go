package pull

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"ocspfleet/db/sitedb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/health"
	"ocspfleet/sync/replica"

	"golang.org/x/mod/sumdb/note"
)

// Config says which sources to ask and which keys to trust. A zero duration stands for its default.
type Config struct {
	// Store is the site's database, by a login in ocsp_sync.
	Store *sitedb.DB
	// Origin is the name of the feed; Root is its root's key. Both are pinned.
	Origin string
	Root   note.Verifier
	// Sources in the order of preference: the master, then peers.
	Sources []*feedhttp.Client
	// PreferPeers asks random peers, two at a time, and the first source, the master, only if there
	// are no others or they bring nothing: so the master's traffic does not grow with the sites.
	// News may then take some hops, and after a loss of the way two thirds of StaleAfter more.
	PreferPeers bool
	// CheckIn is how often the master itself is asked for its clock, and whether this site is let
	// in, by a site that polls the master anyway or doubts its clock. A site with peers asks each
	// sixtieth time, and one that is denied access each 15 s. Default 4 min: a measurement of the
	// clock counts for 10.
	CheckIn time.Duration
	// Latest gets each checkpoint that was applied, for the relay. May be nil.
	Latest *feedhttp.Latest
	// Wait is the long poll. Default 75 s: an idle master sends each minute.
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
	// WatchEvery is how often the puller checks whether another program wrote into the copy, which
	// is then recounted at once. Default 1 s.
	WatchEvery time.Duration
	// KeysEvery is how often all sources are asked for a newer key set, besides when news need one.
	// For this long the site may accept a thief's signature after the ban, if it reaches no other
	// source. A site that prefers peers asks its two peers, and the master at each check-in.
	// Default 1 h.
	KeysEvery time.Duration
	// Metrics may be nil.
	Metrics *Metrics
	// Log gets changes of source, seeds and the faults of a source.
	Log *slog.Logger
	// Now is the site's clock. Default time.Now.
	Now func() time.Time
}

// Bounds.
const (
	// maxBehind is how many segments are fetched one by one; a site further behind takes a
	// snapshot.
	maxBehind = 20_000
	// applyTimeout bounds one step at the site's database.
	applyTimeout = 5 * time.Minute
	// seedTimeout bounds a seed: 140 M certificates over a slow line take hours.
	seedTimeout = 12 * time.Hour
)

// Puller follows the feed. Run is called once; State is safe for concurrent use.
type Puller struct {
	cfg Config

	mu        sync.Mutex // guards state
	state     State
	fetchKeys atomic.Int32 // also fetch the key set
	near      atomic.Bool  // the master is being asked for news
	access    replica.Access
	watched   watched
	reporter  *replica.Reporter

	clock replica.Clock // belongs to the goroutine that checks in

	// The fields below belong to Run's goroutine.
	pause time.Duration // after the last step
	keys  *feed.KeySet
	copy  sitedb.FeedCopy
	// current says that copy is what the last step left in the database: it need not be read before
	// the next step. A poll without news finds what other programs changed there.
	current bool
	reseed  string // why the copy must be seeded again; empty: no need
	lost    error  // the step that the copy must not apply; nil: there is none
	refusal refusal
	// diverged says how the copy differs from what was signed; empty: it does not.
	diverged string
	unread   string    // why the last count of the copy failed; empty: it did not
	keysDue  time.Time // when the key set is fetched even if no news need it
	tainted  bool      // the key set does not admit the copy's statement
	// stood is the newest accepted checkpoint, or manifest of a seed: later ones must not go back
	// behind it. Nil: there is none that the newest key set admits.
	stood    *feed.Checkpoint
	cleansed bool // the copy was seeded since it stood on a statement of a banned key
	sources  []source
	active   activePeers
	seedBy   time.Time             // until when the site waits for a peer's copy before it asks the master; zero: it does not
	sent     map[int64]feed.Sealed // segments that came with the news, by number
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
	cfg.Wait, cfg.StaleAfter, cfg.Backoff = cmp.Or(cfg.Wait, 75*time.Second), cmp.Or(cfg.StaleAfter, 3*time.Minute), cmp.Or(cfg.Backoff, time.Second)
	cfg.Recount, cfg.WatchEvery = cmp.Or(cfg.Recount, time.Minute), cmp.Or(cfg.WatchEvery, time.Second)
	cfg.KeysEvery, cfg.CheckIn = cmp.Or(cfg.KeysEvery, time.Hour), cmp.Or(cfg.CheckIn, 4*time.Minute)
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Latest == nil {
		cfg.Latest = &feedhttp.Latest{}
	}
	p := &Puller{
		cfg: cfg, state: State{Trouble: "nothing was fetched yet"},
		watched: watched{Counter: replica.Counter{
			Store: cfg.Store, Log: cfg.Log, Pace: replica.Pace{Regular: cfg.Recount, Readings: 1, Gap: 5 * cfg.WatchEvery, Counts: 1},
		}},
		access:   replica.Access{Store: cfg.Store, Log: cfg.Log},
		clock:    replica.Clock{Store: cfg.Store, Log: cfg.Log, Now: cfg.Now},
		reporter: replica.NewReporter(cfg.Store, cfg.Root, cfg.Sources, cfg.Log),
	}
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

// Run follows the feed until ctx ends; it returns nil then. It waits for databases and sources that
// are away.
func (p *Puller) Run(ctx context.Context) error {
	var visiting sync.WaitGroup
	visiting.Go(func() { p.checkIns(ctx) })
	visiting.Go(func() { _ = p.reporter.Run(ctx) }) // it only stops
	visiting.Go(func() { _ = p.watch(ctx) })
	defer visiting.Wait()
	return health.Every{Pause: func() time.Duration { return p.pause }}.Run(ctx, func(ctx context.Context) error {
		p.pause = p.step(ctx)
		return nil
	})
}

// step asks once, and returns how long to pause.
func (p *Puller) step(ctx context.Context) time.Duration {
	if err := p.load(ctx); err != nil {
		if ctx.Err() == nil {
			p.cfg.Metrics.faulty(Local)
			p.enter("", err)
		}
		return p.cfg.Backoff
	}
	p.recount(ctx)
	now := p.cfg.Now()
	chosen := p.choose(now)
	if len(chosen) == 0 {
		return p.nextDue(now)
	}
	asking, stop := p.watched.asking(ctx)
	s, err := p.ask(asking, chosen)
	called := asking.Err() != nil
	stop()
	switch {
	case ctx.Err() != nil:
		return p.cfg.Backoff
	case called && err != nil:
		return 0 // to count the copy: not a fault of the source
	case err == nil:
		p.good(ctx, s)
		return 0
	default:
		p.left(ctx, s, err)
		return 0
	}
}

// load reads the stored state: a failed step may have been stored.
func (p *Puller) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if !p.current {
		var err error
		if p.copy, err = p.cfg.Store.FeedCopy(ctx); err != nil {
			return err
		}
		p.cfg.Metrics.stands(p.copy.Head)
		if err := p.checkHead(ctx); err != nil {
			return err
		}
	}
	p.current = false
	if err := p.access.Load(ctx); err != nil {
		return err
	}
	if p.keys == nil {
		if err := p.loadKeys(ctx); err != nil || p.keys == nil {
			return err
		}
	}
	if !p.copy.Anchored || p.stood != nil && p.cfg.Latest.Newest().Note != nil {
		return nil
	}
	if err := p.rejudge(ctx); err != nil || p.stood == nil {
		return err
	}
	n, err := p.cfg.Store.FeedNote(ctx)
	if err == nil {
		p.cfg.Latest.Publish(n)
	}
	return err
}

// enter shows the result of a source; err is a fault of the source, or of this site's database.
func (p *Puller) enter(source string, err error) {
	trouble := diagnose(sight{denied: p.access.Denied(), err: err, unread: p.unread})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = State{Source: source, Position: p.copy.Head.Position, AsOf: p.copy.Head.AsOf, Trouble: trouble}
}
