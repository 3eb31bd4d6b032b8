package logical

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/upstream"
)

// localTimeout bounds one step at the site's database, which is near.
const localTimeout = 10 * time.Second

// orphanAge is when an unused slot of this site is dropped: the slot of a seed that another
// ocspsyncd is still making is younger.
const orphanAge = time.Hour

// subscriber is one subscription of this site with its slots at the master: for the rows, or for
// the signed files. It belongs to one goroutine.
type subscriber struct {
	name   string // of the subscription
	files  bool   // it is the one of the files
	site   string
	local  *sitedb.DB
	master *upstream.DB
	// patience bounds a query to the master, retry is the pause after a failed one.
	patience, retry time.Duration
	log             *slog.Logger
	now             func() time.Time

	connected  bool // its connection to the master was set
	connectDue time.Time
	backoff    backoff // between two seeds
}

// act does something on the site's database that may be tried again later.
func (s *subscriber) act(ctx context.Context, what string, do func(context.Context) error) bool {
	call, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	err := do(call)
	if err != nil && ctx.Err() == nil {
		s.log.ErrorContext(ctx, "maintenance failed", slog.String("what", what), slog.String("subscription", s.name), slog.String("error", err.Error()))
	}
	return err == nil
}

// connect sets the subscription's connection to the master, once: it may have changed since the
// subscription was made.
func (s *subscriber) connect(ctx context.Context) {
	now := s.now()
	if s.connected || now.Before(s.connectDue) {
		return
	}
	s.connectDue = now.Add(s.retry)
	s.connected = s.act(ctx, "telling it the way to the master", func(ctx context.Context) error {
		return s.local.ConnectSubscription(ctx, s.name, s.master)
	})
}

// enable enables the subscription again.
func (s *subscriber) enable(ctx context.Context) {
	s.act(ctx, "enabling it again", func(ctx context.Context) error { return s.local.EnableSubscription(ctx, s.name, true) })
}

// newSlot names a slot by the time of its making: in milliseconds; one of the files in seconds,
// after a 0.
func (s *subscriber) newSlot() string {
	made := strconv.FormatInt(s.now().UnixMilli(), 10)
	if s.files {
		made = "0" + strconv.FormatInt(s.now().Unix(), 10)
	}
	return db.SlotPrefix(s.site) + made
}

// age returns how long ago a slot of this site was made, by its name.
func (s *subscriber) age(slot string) time.Duration {
	n, err := strconv.ParseInt(strings.TrimPrefix(slot, db.SlotPrefix(s.site)), 10, 64)
	switch {
	case err != nil:
		return 0 // another program made it
	case db.IsFilesSlot(slot):
		return s.now().Sub(time.Unix(n, 0))
	}
	return s.now().Sub(time.UnixMilli(n))
}

// dropOrphans drops unused slots of this subscription, except the one in use.
func (s *subscriber) dropOrphans(ctx context.Context, slots []db.Slot, used string) {
	for _, slot := range slots {
		if slot.Name != used && db.IsFilesSlot(slot.Name) == s.files && !slot.Active && s.age(slot.Name) > orphanAge {
			s.dropSlot(ctx, slot.Name)
		}
	}
}

// dropSlot drops a slot that this site no longer needs. A failure does no harm: the slot is found
// again as an orphan.
func (s *subscriber) dropSlot(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	if err := s.master.DropSlot(ctx, name); err != nil {
		s.log.WarnContext(ctx, "old slot not dropped", slog.String("slot", name), slog.String("error", err.Error()))
		return
	}
	s.log.InfoContext(ctx, "old slot dropped", slog.String("slot", name))
}

// ours says whether a slot's name has the site's name.
func ours(slot, site string) bool {
	prefix := db.SlotPrefix(site)
	if len(slot) <= len(prefix) || slot[:len(prefix)] != prefix {
		return false
	}
	for _, c := range []byte(slot[len(prefix):]) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// slotLost says why a slot cannot be streamed from, by the last query to the master; empty: it
// can.
func slotLost(slot string, slots []db.Slot) string {
	for _, s := range slots {
		switch {
		case s.Name != slot:
		case s.Status == "lost":
			return "the master gave up slot " + slot + ": this site was away for more than its max_slot_wal_keep_size"
		default:
			return ""
		}
	}
	return "the master has no slot " + slot
}

// backoff spaces seeds, successful or not: each makes the master read all its rows.
type backoff struct {
	delay time.Duration
	next  time.Time
}

const (
	minBackoff = time.Second
	maxBackoff = 5 * time.Minute
)

func (b *backoff) ready(now time.Time) bool { return !now.Before(b.next) }

// attempted notes the end of a seed.
func (b *backoff) attempted(now time.Time) {
	b.delay = min(max(2*b.delay, minBackoff), maxBackoff)
	b.next = now.Add(b.delay)
}

// healthy notes that all is well; after long enough, the next fault counts as a new one.
func (b *backoff) healthy(now time.Time) {
	if b.delay > 0 && now.Sub(b.next) > b.delay {
		b.delay = 0
	}
}
