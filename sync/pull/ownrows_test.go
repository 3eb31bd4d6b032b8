package pull_test

import (
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
	"ocspfleet/sync/pull"
)

// Somebody writes into what is no row of the master's, but this site's own account of its
// copy: nothing is skipped because of it, and it is made right.
func TestASitesOwnRowsAreMadeRight(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"the head is ahead":      "update feed_head set position = position + 1000",
		"the head is behind":     "update feed_head set position = position - 1",
		"the head's epoch":       "update feed_head set epoch = epoch + 1",
		"the head's as_of":       "update feed_head set as_of = as_of + interval '1 day'",
		"the anchor is gone":     "delete from feed_anchor",
		"the checkpoint is gone": "delete from feed_checkpoint",
		"the key sets are gone":  "delete from feed_keys",
		"the site's state":       "delete from site_state",
		"the head is gone":       "delete from feed_head",
		"the segments are gone":  "delete from segment",
		"the snapshots are gone": "delete from snapshot_chunk; delete from snapshot",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, s, p := changed(t, sql)
			s.equals(t, m)
			want, err := m.store.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the head is the master's", func() bool {
				got, err := s.store.Head(t.Context())
				return err == nil && got.Epoch == want.Epoch && got.Position == want.Position && !got.AsOf.After(time.Now().Add(time.Minute))
			})
			eventually(t, "all is well", func() bool { return p.State().Trouble == "" })
			if _, err := s.store.FeedNote(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// changed is a site that follows, in whose database somebody runs sql, before certificate 1
// of two is revoked at the master.
func changed(t *testing.T, sql string) (*master, *site, *pull.Puller) {
	t.Helper()
	m, s := newMaster(t), newSite(t)
	m.issue(t, 1)
	m.issue(t, 2)
	p, _ := s.pulls(t, m, func(c *pull.Config) { c.WatchEvery = 20 * time.Millisecond }, serve(t, m.store, m.latest, s.id, nil))
	s.equals(t, m)
	dbtest.Exec(t, s.dsn, sql)
	m.revoke(t, 1, db.ReasonKeyCompromise)
	return m, s, p
}

// Somebody drops a key, which lets a row in twice, or a column, and the triggers. The copy
// comes right once the schema is repaired, by itself.
func TestARepairedSiteIsSeededAnew(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"a key": `alter table certificate drop constraint certificate_pkey;
			insert into certificate select issuer_id, serial, not_after + interval '1 day' from certificate where revoked_at is null`,
		"a column": "alter table certificate drop reason cascade",
		"triggers": "drop trigger site_touch on certificate; drop trigger site_deleted on certificate; alter table feed_head disable trigger user",
		"a table":  "drop table segment",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, s, p := changed(t, sql)
			if done, err := migrations.Repair(t.Context(), s.dsn, migrations.Site); err != nil || len(done.Refused) > 0 {
				t.Fatalf("%+v, %v", done, err)
			}
			s.equals(t, m)
			m.revoke(t, 2, db.ReasonKeyCompromise)
			s.equals(t, m)
			eventually(t, "all is well", func() bool { return p.State().Trouble == "" })
		})
	}
}
