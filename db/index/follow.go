package index

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ocspfleet/db"
)

const (
	// maxChanges is how many changes are taken one by one; more are read faster as a whole.
	maxChanges = 250_000
	// lookGap is the least time between two looks: 100 looks a second cost about a
	// tenth of a core, and 10 ms are nothing beside the second within which a
	// revocation is to be seen.
	lookGap = 10 * time.Millisecond
	// A diverged copy is read as a whole again, at most for 1/60 of the time.
	reloadShare   = 60
	minReloadWait = time.Second
	maxReloadWait = 10 * time.Minute

	minListenWait = 100 * time.Millisecond
	maxListenWait = 10 * time.Second
)

// follower is what the goroutine of Run knows of the database.
type follower struct {
	held    db.Head   // the adopted head
	seq     uint64    // site_seq up to which changes were adopted
	started time.Time // when the postmaster of the adopted snapshot started

	received time.Time // when the adopted head was first seen
	clock    string    // what is wrong with the clock
	trouble  verdict   // why the latest snapshot was refused

	loadEnded time.Time // of the latest load of all rows
	loadTook  time.Duration
	seen      sign // of the trouble when all rows were last read
}

// Run follows the database until ctx ends.
func (x *Index) Run(ctx context.Context) error {
	wake := make(chan struct{}, 1)
	var listener sync.WaitGroup
	listener.Go(func() { x.listen(ctx, wake) })
	defer listener.Wait()
	poll := time.NewTicker(x.cfg.Poll)
	defer poll.Stop()
	for {
		err := x.step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		x.note(ctx, err)
		if !sleep(ctx, lookGap) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-poll.C:
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// listen wakes the follower at notifications; a lost connection is taken up
// again, and until then the poll does.
func (x *Index) listen(ctx context.Context, wake chan<- struct{}) {
	wait := minListenWait
	for ctx.Err() == nil {
		err := x.store.ListenHead(ctx, func() {
			wait = minListenWait
			select {
			case wake <- struct{}{}:
			default: // it is awake
			}
		})
		if ctx.Err() != nil {
			return
		}
		x.log.DebugContext(ctx, "listening ended", slog.Any("error", err), slog.Duration("again_in", wait))
		sleep(ctx, wait)
		wait = min(2*wait, maxListenWait)
	}
}

// mode is how much of the rows a look may read.
type mode int

const (
	changesOnly mode = iota // what is new; if that is not enough, say so
	asNeeded                // what is new, or all rows if that is not enough
	everything
)

// step looks at the database and adopts what can be adopted. An error means that
// the database could not be asked.
func (x *Index) step(ctx context.Context) error {
	if x.trouble.kind != adoptable {
		return x.heal(ctx)
	}
	// Unequal: once more in a new snapshot, then all rows, then the alarm.
	var v verdict
	for _, m := range []mode{asNeeded, asNeeded, everything} {
		var err error
		if v, err = x.look(ctx, m); err != nil {
			return err
		}
		if v.kind != divergence {
			break
		}
	}
	x.refuse(ctx, v)
	return nil
}

// heal looks whether the trouble is over. It reads all rows only when that may
// find something new, or seldom.
func (x *Index) heal(ctx context.Context) error {
	v, err := x.look(ctx, changesOnly)
	if err != nil {
		return err
	}
	if v.kind == divergence {
		waited := x.cfg.Now().Sub(x.loadEnded)
		due := min(max(reloadShare*x.loadTook, minReloadWait), maxReloadWait)
		if v.sign != x.seen {
			due = max(5*x.loadTook, minReloadWait)
		}
		if waited >= due || waited < 0 {
			x.seen = v.sign
			if v, err = x.look(ctx, everything); err != nil {
				return err
			}
		}
	}
	x.refuse(ctx, v)
	return nil
}

// look takes one snapshot, judges it and adopts it if it can.
func (x *Index) look(ctx context.Context, m mode) (verdict, error) {
	began := x.cfg.Now()
	var s *snapshot
	var v verdict
	err := x.store.Look(ctx, func(ctx context.Context, l *db.Look) error {
		s = &snapshot{head: l.Head, seq: l.LastSeq, started: l.Started, received: began}
		x.clock = clockDoubt(l)
		if v = x.judgeEarly(l); v.kind != adoptable {
			return nil
		}
		return x.read(ctx, l, s, m)
	})
	if errors.Is(err, db.ErrNoHead) {
		return verdict{kind: noHead, text: "divergence: " + db.ErrNoHead.Error()}, nil
	}
	if err != nil || v.kind != adoptable {
		return v, err
	}
	if s.table != nil {
		x.loadEnded = x.cfg.Now()
		x.loadTook = x.loadEnded.Sub(began)
	}
	if v = judge(s, x.table.Load(), x.cfg.Now()); v.kind == adoptable {
		x.adopt(ctx, s)
	}
	return v, nil
}

// read fills the snapshot: lists that changed, and what is new or all of the certificates.
func (x *Index) read(ctx context.Context, l *db.Look, s *snapshot, m mode) error {
	s.needs = x.needsAll(l)
	if m != everything && s.needs == "" {
		if err := x.readChanges(ctx, l, s); err != nil {
			return err
		}
	}
	if s.needs != "" && m == changesOnly {
		return nil
	}
	all := m == everything || s.needs != ""
	if all {
		s.needs = ""
		if err := readAll(ctx, l, s); err != nil {
			return err
		}
	}
	var err error
	s.lists, err = readLists(ctx, l, x.lists.Load(), all)
	return err
}

// needsAll says why the changes since the last look are not enough.
func (x *Index) needsAll(l *db.Look) string {
	switch {
	case x.table.Load() == nil:
		return "nothing was loaded yet"
	case !l.Started.Equal(x.started):
		return "the local PostgreSQL was restarted"
	case x.seq < l.TrimmedTo:
		return "the changes since the last look were trimmed"
	case l.LastSeq < x.seq:
		return "the numbers of changes went back"
	}
	return ""
}

// readChanges takes what is new, one by one, and the tally that the table would
// have with it. The table is not touched.
func (x *Index) readChanges(ctx context.Context, l *db.Look, s *snapshot) error {
	s.tally = x.held.Certificates
	if l.LastSeq == x.seq {
		return nil
	}
	pending := map[string]row{} // nil: gone
	more, err := l.Changes(ctx, x.seq, maxChanges, func(c db.CertificateChange) error {
		key, r, err := packChange(c)
		if err == nil {
			pending[string(key)] = r
		}
		return err
	})
	if err != nil {
		return err
	}
	if more {
		s.needs = fmt.Sprintf("more than %d rows changed at once", maxChanges)
		return nil
	}
	t := x.table.Load()
	var buf []byte
	for key, next := range pending {
		c := change{key: []byte(key), next: next}
		var found bool
		if c.prev, found = t.find(c.key); found {
			buf = c.prev.canonical(buf[:0])
			s.tally.Remove(buf)
		}
		if next != nil {
			buf = next.canonical(buf[:0])
			s.tally.Add(buf)
		}
		if c.prev != nil || c.next != nil {
			s.changes = append(s.changes, c)
		}
	}
	return nil
}

// packChange returns the packed key and the packed row, nil when it is gone.
func packChange(c db.CertificateChange) (key []byte, r row, err error) {
	if c.Deleted {
		issuer, serial, err := db.ParseCertificateKey(c.Content)
		if err != nil {
			return nil, nil, err
		}
		return appendKey(nil, issuer, serial), nil, nil
	}
	r, err = pack(nil, c.Seq, c.Content)
	if err != nil {
		return nil, nil, err
	}
	return r.key(), r, nil
}

func pack(dst []byte, seq uint64, canonical []byte) (row, error) {
	issuer, serial, status, err := db.ParseCertificate(canonical)
	if err != nil {
		return nil, err
	}
	status.Changed = seq
	return appendRow(dst, issuer, serial, status)
}

// readAll builds a table of its own. Its tally is taken over the octets that the
// database sent.
func readAll(ctx context.Context, l *db.Look, s *snapshot) error {
	b := newBuilder(int(max(0, min(l.Head.Certificates.Count, 1<<27)))) // a wrong head must not eat the memory
	s.tally = db.Tally{}
	var buf [maxRowLen]byte
	err := l.Certificates(ctx, func(seq uint64, canonical []byte) error {
		s.tally.Add(canonical)
		r, err := pack(buf[:0], seq, canonical)
		if err == nil {
			b.add(r)
		}
		return err
	})
	if err != nil {
		return err
	}
	s.table, s.changes = b.table(), nil
	return nil
}

// readLists reads the small tables again, each only if the head says that it
// changed, or if all is wanted.
func readLists(ctx context.Context, l *db.Look, held *lists, all bool) (*lists, error) {
	next := *held
	var buf []byte
	var err error
	if all || held.issuerTally != l.Head.Issuers {
		if next.issuers, err = l.Issuers(ctx); err != nil {
			return nil, err
		}
		next.issuerTally = db.Tally{}
		for _, i := range next.issuers {
			buf = db.AppendIssuer(buf[:0], i)
			next.issuerTally.Add(buf)
		}
	}
	if all || held.responderTally != l.Head.ResponderCertificates {
		if next.responders, err = l.ResponderCertificates(ctx); err != nil {
			return nil, err
		}
		next.responderTally = db.Tally{}
		for _, r := range next.responders {
			buf = db.AppendResponderCertificate(buf[:0], r)
			next.responderTally.Add(buf)
		}
	}
	return &next, nil
}

// adopt publishes a snapshot: rows first, the horizon (by refuse) last.
func (x *Index) adopt(ctx context.Context, s *snapshot) {
	if s.table != nil {
		x.table.Store(s.table)
		x.cfg.Metrics.reloaded()
		x.log.InfoContext(ctx, "copy loaded", slog.Int64("certificates", s.tally.Count), slog.Int64("position", s.head.Position),
			slog.Duration("took", x.loadTook))
	} else if len(s.changes) > 0 {
		t := x.table.Load()
		t.apply(s.changes)
		if t.crowded() {
			x.table.Store(t.recut())
		}
	}
	x.lists.Store(s.lists)
	h := s.head
	same := h.Epoch == x.held.Epoch && h.Position == x.held.Position
	switch {
	case !same || h.AsOf.After(x.held.AsOf):
		x.received = s.received
	default:
		h.AsOf = x.held.AsOf // the clock of one position never goes back
	}
	x.held, x.seq, x.started = h, s.seq, s.started
}

// refuse publishes the horizon with what speaks against the latest snapshot,
// nothing if it was adopted, and says so once per kind of trouble.
func (x *Index) refuse(ctx context.Context, v verdict) {
	before := x.trouble.kind
	x.trouble = v
	switch {
	case v.kind != adoptable && v.kind != before:
		x.log.ErrorContext(ctx, "snapshot refused", slog.String("kind", string(v.kind)), slog.String("why", v.text),
			slog.Any("lost", v.lost), slog.Bool("loaded", x.table.Load() != nil))
	case v.kind == adoptable && before != adoptable:
		x.log.InfoContext(ctx, "snapshots adopted again", slog.String("after", string(before)), slog.Int64("position", x.held.Position))
	}
	x.publish()
}

// publish makes the horizon what the follower knows.
func (x *Index) publish() {
	h := db.Horizon{Doubt: x.trouble.text}
	if x.table.Load() != nil {
		h.Epoch, h.Position, h.AsOf, h.Received = x.held.Epoch, x.held.Position, x.held.AsOf, x.received
	} else if h.Doubt == "" {
		h.Doubt = ErrNotReady.Error()
	}
	if h.Doubt == "" {
		h.Doubt = x.clock
	}
	if h != *x.horizon.Load() {
		x.horizon.Store(&h)
	}
	x.cfg.Metrics.follow(x.Len(), h.Position, x.trouble.kind != adoptable)
}

// note keeps for State what became of a step, and logs when the database goes
// away and comes back.
func (x *Index) note(ctx context.Context, err error) {
	x.cfg.Metrics.database(err == nil)
	x.mu.Lock()
	since := x.state.DownSince
	x.state.Refused = x.trouble.text
	if err != nil && since.IsZero() {
		x.state.DownSince = x.cfg.Now()
	}
	x.state.DownError = ""
	if err != nil {
		x.state.DownError = err.Error()
	} else {
		x.state.DownSince = time.Time{}
	}
	x.mu.Unlock()
	switch {
	case err != nil && since.IsZero():
		x.log.WarnContext(ctx, "database away", slog.Any("error", err))
	case err == nil && !since.IsZero():
		x.log.InfoContext(ctx, "database back", slog.Duration("after", x.cfg.Now().Sub(since)))
	}
}
