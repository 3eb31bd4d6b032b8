package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/publisherdb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/health"

	"golang.org/x/mod/sumdb/note"
)

// SealerConfig says what to seal, with which key and how often. A zero duration stands for its
// default.
type SealerConfig struct {
	// Store is the master's database, by a login in ocsp_publisher.
	Store *publisherdb.DB
	// Key signs; the newest key set must name Key or Next.
	Key *feed.Key
	// Next signs instead of Key once the key set in force names it and its time has come. Nil: no
	// rotation is prepared.
	Next *feed.Key
	// Keys is the key set in force at the start.
	Keys *feed.KeySet
	// Root verifies newer key sets that are stored while this runs; they are taken within a
	// second. Nil: Keys stays.
	Root note.Verifier
	// State is a file with the last signed checkpoint, outside the database: nothing is signed
	// that does not continue it. Empty: the checkpoint is known only while this runs.
	State string
	// Lost says what sites have and this master lost (ForkReports.Lost): then nothing is signed,
	// since that would be a second history. Nil: no check.
	Lost func() string
	// Latest gets each checkpoint once it is stored.
	Latest *feedhttp.Latest
	// Poll is how often the head is read. Default 20 ms: half of it is added to the delay of a
	// revocation. One reading costs about 0.3 ms of processor time.
	Poll time.Duration
	// Wait is how long changes that are not revocations are gathered. Default 1 s. If there are
	// many, a tenth of it: a revocation also seals the waiting changes, and makes every site's
	// transaction longer.
	Wait time.Duration
	// Gather is how many changes end the wait. Default 5,000, a transaction of an import: it waits
	// until the sites have applied the changes before.
	Gather int64
	// Confirm is how long after the last checkpoint an idle head is confirmed.
	// Default 60 s: at 5 s checkpoints alone would be 180 MB a month per site.
	Confirm time.Duration
	// Log gets troubles, and segments that require a snapshot.
	Log *slog.Logger
	// Metrics counts; it may be nil.
	Metrics *SealerMetrics
	// Now is this machine's clock. Default time.Now.
	Now func() time.Time
}

// batchThreshold is how many changes shorten the wait: a site applies 250 in 3 ms.
const batchThreshold = 75

// Sealer signs committed changes. Run is called once; Trouble is safe for concurrent use.
type Sealer struct {
	cfg     SealerConfig
	trouble health.Trouble

	// The fields below belong to Run's goroutine.
	ring     keyring
	memory   *memory
	epoch    int64
	sealed   int64     // position of the last checkpoint
	asOf     time.Time // of the last checkpoint
	signedAt time.Time // when it was signed
	seen     int64     // position up to which urgency was checked
	since    time.Time // since when unsealed changes wait; zero: none wait
	pause    time.Duration
}

// NewSealer sets the defaults, and refuses a key that the key set does not name.
func NewSealer(cfg SealerConfig) (*Sealer, error) {
	cfg.Poll, cfg.Wait = cmp.Or(cfg.Poll, 20*time.Millisecond), cmp.Or(cfg.Wait, time.Second)
	cfg.Confirm, cfg.Gather = cmp.Or(cfg.Confirm, time.Minute), cmp.Or(cfg.Gather, 5_000)
	if cfg.Metrics == nil {
		cfg.Metrics = NewSealerMetrics(nil)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	ring := newKeyring(cfg.Store, cfg.Root, cfg.Keys, cfg.Key, cfg.Next)
	if !ring.names() {
		return nil, fmt.Errorf("key set %d of %s does not name the feed key %s: have the feed root sign one that does",
			cfg.Keys.Number, cfg.Keys.Origin, cfg.Key.Verifier())
	}
	memory, err := openMemory(cfg.State)
	if err != nil {
		return nil, err
	}
	s := &Sealer{cfg: cfg, ring: ring, memory: memory}
	s.trouble.Set("nothing was signed yet")
	return s, nil
}

// Trouble says why nothing is signed; empty: all is well.
func (s *Sealer) Trouble() string { return s.trouble.Get() }

// Run seals until ctx ends; it returns nil then. It waits for a database that is away.
func (s *Sealer) Run(ctx context.Context) error {
	failed := func(text string) { s.cfg.Log.ErrorContext(ctx, "feed cannot be sealed", slog.String("error", text)) }
	return health.Every{Pause: func() time.Duration { return s.pause }, Trouble: &s.trouble, Failed: failed}.Run(ctx, s.step)
}

// retryPause is the pause after a failed step.
const retryPause = time.Second

// step reads the head once, and signs if it is time.
func (s *Sealer) step(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, feedhttp.CallTimeout)
	defer cancel()
	err := s.poll(call)
	switch {
	case ctx.Err() != nil: // a stop is not a trouble
	case err != nil:
		s.signedAt, s.epoch = time.Time{}, 0 // the stored state may differ: begin again
		s.cfg.Metrics.failed()
		s.pause = retryPause
	default:
		if s.trouble.Get() != "" {
			s.cfg.Log.InfoContext(ctx, "feed is sealed", slog.Int64("position", s.sealed))
		}
		s.pause = s.cfg.Poll
	}
	return err
}

func (s *Sealer) poll(ctx context.Context) error {
	p, err := s.cfg.Store.Pending(ctx, s.seen)
	if err != nil {
		return err
	}
	now := s.cfg.Now()
	if err := s.renew(ctx, now); err != nil {
		return err
	}
	switch {
	case p.Epoch != s.epoch:
		return s.seal(ctx) // the first one after the start
	case p.Position == s.sealed:
		if now.Sub(s.signedAt) >= s.cfg.Confirm && p.AsOf.After(s.asOf) {
			return s.seal(ctx)
		}
		return nil
	}
	s.seen = max(s.seen, p.Position)
	if s.since.IsZero() {
		s.since = now
	}
	count, waited := p.Position-s.sealed, now.Sub(s.since)
	if p.Urgent || waited >= s.cfg.Wait || count >= s.cfg.Gather || count >= batchThreshold && waited >= s.cfg.Wait/10 {
		return s.seal(ctx)
	}
	return nil
}

// renew takes a newer key set.
func (s *Sealer) renew(ctx context.Context, now time.Time) error {
	renewed, err := s.ring.renew(ctx, now)
	if renewed {
		s.cfg.Log.InfoContext(ctx, "key set taken", slog.Int64("number", s.ring.set.Number), slog.Int64("epoch", s.ring.set.Epoch))
		s.signedAt = time.Time{} // the next checkpoint tells the sites its number
	}
	return err
}

// seal signs all that is committed, or confirms that nothing is new.
func (s *Sealer) seal(ctx context.Context) error {
	if s.cfg.Lost != nil {
		if lost := s.cfg.Lost(); lost != "" {
			return errors.New(lost)
		}
	}
	began := s.cfg.Now()
	var stored publisherdb.Sealed
	err := s.cfg.Store.Seal(ctx, s.sealed, func(ctx context.Context, w *publisherdb.Sealing) (publisherdb.Sealed, error) {
		var err error
		if stored, err = s.sign(ctx, w); err == nil {
			s.memory.tries(stored)
		}
		return stored, err
	})
	if err != nil {
		return err
	}
	n := stored.Note
	s.epoch, s.sealed, s.asOf, s.signedAt, s.since = n.Epoch, n.Position, n.AsOf, began, time.Time{}
	s.seen = max(s.seen, n.Position)
	s.cfg.Metrics.signed(stored, s.cfg.Now().Sub(began))
	s.cfg.Latest.PublishSegment(n, stored.Segment)
	return s.memory.keep(n.Note) // after a restart check repairs a missing note
}

func (s *Sealer) sign(ctx context.Context, w *publisherdb.Sealing) (publisherdb.Sealed, error) {
	if err := s.memory.check(w.Head, w.Last, s.ring.set); err != nil {
		return publisherdb.Sealed{}, err
	}
	if w.Head.Position < w.Last.Last {
		return publisherdb.Sealed{}, fmt.Errorf("the head is at position %d, signed is up to %d: this master lost changes that sites have; "+
			"begin a new epoch by a key set of the feed root", w.Head.Position, w.Last.Last)
	}
	key, err := s.ring.signer(w.Head.Epoch, w.Head.AsOf)
	if err != nil {
		return publisherdb.Sealed{}, err
	}
	c := feed.NewCheckpoint(s.ring.set.Origin, w.Head, w.PurgeBefore)
	c.KeySet = s.ring.set.Number
	c.Number, c.Segment, c.Previous = w.Last.Number, feed.Hash(w.Last.Hash), feed.Hash(w.Last.NoteHash)
	signed := db.FeedNote{Epoch: c.Epoch, Number: c.Number, Position: c.Position, AsOf: c.AsOf}
	if w.Head.Position == w.Last.Last {
		signed.Note, err = c.Sign(key)
		return publisherdb.Sealed{Note: signed}, err
	}
	segment := &feed.Segment{Epoch: c.Epoch, Number: w.Last.Number + 1, First: w.Last.Last + 1, Last: c.Position, Previous: feed.Hash(w.Last.Hash)}
	sealed, err := s.fill(ctx, w, segment, &c, key)
	if err != nil {
		return publisherdb.Sealed{}, err
	}
	signed.Number, signed.Note = segment.Number, sealed.Note
	return publisherdb.Sealed{Note: signed, Segment: &db.Segment{
		Epoch: segment.Epoch, Number: segment.Number, First: segment.First, Last: segment.Last,
		Hash: c.Segment, Note: sealed.Note, NoteHash: c.Hash(), SnapshotRequired: segment.SnapshotRequired, Body: sealed.Body,
	}}, nil
}

// fill seals a segment with its changes, or as "snapshot required" if they do not fit or the log
// lacks one: a change written by hand must not stop the feed.
func (s *Sealer) fill(ctx context.Context, w *publisherdb.Sealing, segment *feed.Segment, c *feed.Checkpoint, key *feed.Key) (feed.Sealed, error) {
	count := segment.Last - segment.First + 1
	if count <= feed.MaxEntries {
		var err error
		if segment.Changes, err = w.Changes(ctx, w.Last.Last); err != nil {
			return feed.Sealed{}, err
		}
		if int64(len(segment.Changes)) == count {
			if sealed, err := feed.Seal(segment, c, key); !errors.Is(err, feed.ErrUnfit) {
				return sealed, err
			}
		}
	}
	s.cfg.Log.WarnContext(ctx, "changes do not fit into a segment: sites take a snapshot", slog.Int64("first", segment.First), slog.Int64("last", segment.Last))
	segment.Changes, segment.SnapshotRequired = nil, true
	return feed.Seal(segment, c, key)
}
