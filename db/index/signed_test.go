package index_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/index"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/sitedb"
)

// trust believes a note that is a head in JSON, under "good keys"; "correct keys" are a
// set for corrections alone.
func trust(sets [][]byte) (index.Trust, error) {
	keys := ""
	if len(sets) > 0 { // the highest number comes first
		keys = string(sets[0])
	}
	believed := index.Trust{Corrections: openNotes}
	switch keys {
	case "good keys":
		believed.Checkpoint = openHead
	case "next keys": // an earlier one is banned
		believed.Checkpoint = func(signed []byte) (db.Head, error) {
			h, err := openHead(signed)
			if err == nil && h.AuditCount != 2 {
				err = errors.New("the checkpoint is signed by a banned key")
			}
			return h, err
		}
	case "ban": // of a key that vouched for a far position
		believed.Checkpoint = func(signed []byte) (db.Head, error) {
			h, err := openHead(signed)
			if err == nil && h.Position == far {
				err = errors.New("the checkpoint is signed by a banned key")
			}
			return h, err
		}
	case "correct keys":
	default:
		return index.Trust{}, errors.New("the key set is not signed")
	}
	return believed, nil
}

func openHead(signed []byte) (db.Head, error) {
	var h db.Head
	if err := json.Unmarshal(signed, &h); err != nil {
		return h, errors.New("the checkpoint is not signed")
	}
	return h, nil
}

// signs keeps a checkpoint of the head as it is, changed by how.
func (s *site) signs(keys string, how func(*db.Head)) db.Head {
	s.t.Helper()
	h := s.head()
	h.AuditHash = nil
	how(&h)
	note, err := json.Marshal(h)
	if err != nil {
		s.t.Fatal(err)
	}
	s.keeps(string(note), keys)
	return h
}

func (s *site) keeps(note, keys string) {
	s.t.Helper()
	const sql = `with k as (insert into feed_keys (number, note) select coalesce(max(number), 0) + 1, $2 from feed_keys on conflict (hash) do update set number = excluded.number)
		insert into feed_checkpoint values (1, 1, 1, 1, now(), $1) on conflict (id) do update set note = excluded.note`
	if _, err := s.pool.Exec(s.t.Context(), sql, []byte(note), []byte(keys)); err != nil {
		s.t.Fatal(err)
	}
}

func as(*db.Head) {}

func (s *site) head() db.Head {
	s.t.Helper()
	store, err := sitedb.Open(s.t.Context(), pg.Config{DSN: s.dsn})
	if err != nil {
		s.t.Fatal(err)
	}
	defer store.Close()
	h, err := store.Head(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return h
}

func judging(t testing.TB, s *site) *copied {
	t.Helper()
	return followWith(t, s.dsn, 20*time.Millisecond, trust)
}

func TestHorizonIsNeverFresherThanWhatWasSigned(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	c := judging(t, s)
	c.expectDoubt("feed: no checkpoint vouches for this copy")
	c.expect(2, "revoked")
	old := s.head().AsOf.Add(-time.Hour)
	s.signs("good keys", func(h *db.Head) { h.AsOf = old })
	c.eventually("the signed as_of", func() bool { return c.Ready() == nil && c.Horizon().AsOf.Equal(old) })

	// Whoever writes the database says that it is fresh: nobody believes it.
	s.tx("update feed_head set as_of = as_of + interval '1 minute'")
	for _, forged := range []string{"not signed", ""} {
		s.keeps(forged, "good keys")
		c.eventually("the forged checkpoint seen", func() bool { return strings.Contains(c.log.String(), "checkpoint is not believed") })
		if got := c.Horizon().AsOf; !got.Equal(old) {
			t.Errorf("with checkpoint %q as_of is %v, want %v", forged, got, old)
		}
	}
	s.signs("bad keys", as)
	c.eventually("the forged key set seen", func() bool { return strings.Contains(c.log.String(), "the key set is not signed") })
	if got := c.Horizon().AsOf; !got.Equal(old) {
		t.Errorf("under a forged key set as_of is %v, want %v", got, old)
	}
	signed := s.signs("good keys", as)
	c.eventually("fresh", func() bool { return c.Horizon().AsOf.Equal(signed.AsOf) })
}

// Rows that come before or after their checkpoint are vouched for by the newest
// one of a position that they have reached.
func TestCheckpointsAndRowsNeedNotComeTogether(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	first := s.signs("good keys", as)
	c := judging(t, s)
	c.eventually("ready", func() bool { return c.Ready() == nil })
	s.tx("insert into certificate (issuer_id, serial, not_after) values (1, '\\x10', '2099-01-01')", settle)
	c.eventually("the row", func() bool { return c.Len() == 4 })
	if got := c.Horizon().AsOf; !got.Equal(first.AsOf) {
		t.Errorf("a row that nothing vouches for made the copy fresh: %v, want %v", got, first.AsOf)
	}
	second := s.signs("good keys", as)
	c.eventually("vouched for", func() bool { return c.Horizon().AsOf.Equal(second.AsOf) })
	third := s.signs("good keys", func(h *db.Head) { h.Position++; h.AsOf = h.AsOf.Add(time.Minute) })
	s.tx("update feed_head set as_of = as_of + interval '1 second'")
	c.eventually("still the second", func() bool { return c.Horizon().AsOf.Equal(second.AsOf) })
	s.tx("insert into certificate (issuer_id, serial, not_after) values (1, '\\x11', '2099-01-01')", settle, "update feed_head set position = position + 10, as_of = as_of + interval '2 minutes'")
	c.eventually("the third", func() bool { return c.Horizon().AsOf.Equal(third.AsOf) })
}

// Rows that claim a position which the master has not reached long after are not
// vouched for by what it signs meanwhile.
func TestMadeUpPositionAges(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	s.signs("good keys", as)
	c := judging(t, s)
	c.eventually("ready", func() bool { return c.Ready() == nil })
	was := s.head()
	s.tx("update feed_head set position = position + 1000, as_of = as_of + interval '1 second'")
	c.eventually("adopted", func() bool { return c.Horizon().Position == was.Position+1000 })
	soon := s.signs("good keys", func(h *db.Head) {
		h.Position = was.Position + 1
		h.AsOf = time.Now().Add(time.Minute).UTC().Truncate(time.Microsecond)
	})
	s.tx("update feed_head set as_of = as_of + interval '1 hour'")
	c.eventually("the next one still counts", func() bool { return c.Horizon().AsOf.Equal(soon.AsOf) })
	s.signs("good keys", func(h *db.Head) {
		h.Position = was.Position + 2
		h.AsOf = time.Now().Add(10 * time.Minute).UTC().Truncate(time.Microsecond)
	})
	s.tx("insert into certificate (issuer_id, serial, not_after) values (1, '\\x10', '2099-01-01')", settle, "update feed_head set as_of = as_of + interval '1 hour'")
	c.eventually("looked again", func() bool { return c.Len() == 4 })
	if got := c.Horizon().AsOf; !got.Equal(soon.AsOf) {
		t.Errorf("as_of is %v, want that of the last checkpoint before the doubt, %v", got, soon.AsOf)
	}
}

// A head that agrees with its rows, but not with what was signed for its position.
func TestForgedHeadIsRefused(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	s.signs("good keys", as)
	c := judging(t, s)
	c.eventually("ready", func() bool { return c.Ready() == nil })
	s.tx("insert into certificate (issuer_id, serial, not_after) values (1, '\\x10', '2099-01-01')", settle, "update feed_head set position = position - 1")
	c.expectDoubt("divergence: the head at position 2 is not what was signed")
	c.expect(2, "revoked")
}

// A new key set judges anew what was remembered: a checkpoint of a banned key, of a
// position not reached, counts no more; what was answered by it stands, and ages.
func TestANewKeySetJudgesCheckpointsAgain(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	s.signs("good keys", as)
	c := judging(t, s)
	c.eventually("ready", func() bool { return c.Ready() == nil })
	before := c.Horizon().AsOf
	stolen := s.signs("good keys", func(h *db.Head) { h.Position++; h.AsOf = h.AsOf.Add(time.Minute); h.Certificates.Count++ })
	s.tx("update feed_head set as_of = as_of + interval '1 second'")
	c.eventually("seen", func() bool { return c.Ready() == nil })
	s.tx("insert into certificate (issuer_id, serial, not_after) values (1, '\\x10', '2099-01-01')", "update feed_keys set note = 'next keys'", "delete from feed_checkpoint", settle)
	c.eventually("the row", func() bool { return c.Len() == 4 && c.Ready() == nil })
	if got := c.Horizon().AsOf; got.Equal(stolen.AsOf) || !got.Equal(before) {
		t.Errorf("as_of is %v, want %v", got, before)
	}
	next := s.signs("next keys", func(h *db.Head) { h.AuditCount = 2 })
	c.eventually("the next key's", func() bool { return c.Horizon().AsOf.Equal(next.AsOf) })
}

const far = int64(1) << 62

// A thief's checkpoint vouched for a far position, with a time to come and a long audit.
// Once a key set bans his key none of it counts: the copy ages from then on, answers on,
// and goes back to where the master is.
func TestBanTakesBackWhatIsRemembered(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	s.signs("good keys", as)
	c := judging(t, s)
	c.eventually("ready", func() bool { return c.Ready() == nil })
	s.tx("update feed_head set position = " + strconv.FormatInt(far, 10) + ", audit_count = " + strconv.FormatInt(far, 10) + ", as_of = as_of + interval '4 minutes'")
	s.signs("good keys", as)
	c.eventually("led astray", func() bool { return c.Ready() == nil && c.Horizon().Position == far })
	s.keeps("{}", "ban")
	c.eventually("the ban", func() bool { return !c.Horizon().AsOf.After(time.Now()) })
	frozen := c.Horizon()
	if frozen.Doubt != "" {
		t.Errorf("a ban ends the answers: %s", frozen.Doubt)
	}
	s.tx("update feed_head set as_of = as_of + interval '1 hour'")
	s.tx("insert into certificate (issuer_id, serial, not_after) values (1, '\\x10', '2099-01-01')", settle, "update feed_head set position = 7, audit_count = 9, as_of = now()")
	c.eventually("the master's position", func() bool { return c.Horizon().Position == 7 })
	if got := c.Horizon(); got.Doubt != "" || got.AsOf.After(frozen.AsOf) {
		t.Errorf("the horizon is %+v, it was frozen at %v", got, frozen.AsOf)
	}
	signed := s.signs("ban", as)
	c.eventually("vouched for again", func() bool { return c.Horizon().AsOf.Equal(signed.AsOf) && c.Ready() == nil })
	// The next one may not be led back.
	s.signs("ban", func(h *db.Head) { h.AuditCount--; h.AsOf = h.AsOf.Add(time.Minute) })
	c.eventually("a shorter audit refused", func() bool { return strings.Contains(c.log.String(), "its audit has 8 entries, it had 9") })
	if got := c.Horizon().AsOf; !got.Equal(signed.AsOf) {
		t.Errorf("a checkpoint with a shorter audit counts: %v", got)
	}
}

// Somebody writes another epoch into the head of a site that follows signed checkpoints: it
// is not served as right, and right again once the head is, without a restart.
func TestAnEpochThatNobodySignedIsNotServed(t *testing.T) {
	t.Parallel()
	for name, early := range map[string]bool{"while it runs": false, "before it starts": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := seededSite(t)
			s.signs("good keys", as)
			var c *copied
			if !early {
				c = judging(t, s)
				c.eventually("ready", func() bool { return c.Ready() == nil })
			}
			s.tx("update feed_head set epoch = epoch + 1")
			if early {
				c = judging(t, s)
			}
			c.expectDoubt("feed: no checkpoint vouches for this copy")
			c.expect(2, "revoked")
			s.tx("update feed_head set epoch = epoch - 1")
			c.eventually("ready again", func() bool { return c.Ready() == nil && c.Horizon().Epoch == s.head().Epoch })
			s.tx("insert into certificate (issuer_id, serial, not_after) values (1, '\\x10', '2099-01-01')", settle)
			s.signs("good keys", as)
			c.caughtUp(s)
		})
	}
}
