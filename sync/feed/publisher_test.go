package feed_test

import (
	"testing"
	"time"

	"ocspfleet/db/dbtest"
	"ocspfleet/sync/feed"
)

// Whoever has the publisher's login, but not its key, takes the newest segment away: a
// sealer that believed the database signed another one of its number.
func TestPublishersLoginMakesNobodySignTwice(t *testing.T) {
	m := newMaster(t)
	stop := m.seals(t, func(c *feed.SealerConfig) { c.Wait = time.Millisecond })
	m.issue(t, 1)
	before := m.await(t, m.position(t))
	stop()
	thief := dbtest.Connect(t, dbtest.As(m.dsn, "ocsp_publisher"))
	for _, sql := range []string{
		"delete from segment where number = (select max(number) from segment)", "delete from feed_checkpoint",
	} {
		if _, err := thief.Exec(t.Context(), sql); err == nil {
			t.Errorf("the publisher may run %q", sql)
		}
	}
	m.issue(t, 2)
	m.seals(t, func(c *feed.SealerConfig) { c.Wait = time.Millisecond })
	after := m.await(t, m.position(t))
	if after.Number == before.Number {
		t.Errorf("segment %d was signed twice, for positions %d and %d", after.Number, before.Position, after.Position)
	}
}

// An operator's login, or whoever has it, offers the highest number there is.
func TestGarbageKeySetBlocksNothing(t *testing.T) {
	m := newMaster(t)
	operator := dbtest.Connect(t, dbtest.As(m.dsn, "ocsp_operator"))
	if _, err := operator.Exec(t.Context(), "select feed_keys_add(9223372036854775807, 'garbage', 'why', 'thief')"); err != nil {
		t.Fatal(err)
	}
	stop := m.seals(t, func(c *feed.SealerConfig) { c.Wait, c.Root = time.Millisecond, rootVerifier(t) })
	m.issue(t, 1)
	m.await(t, m.position(t))
	stop()
	if _, err := operator.Exec(t.Context(), "select feed_keys_add(2, 'the ban', 'why', 'operator')"); err != nil {
		t.Errorf("the ban cannot be brought in: %v", err)
	}
}
