package publish_test

import (
	"testing"
	"time"

	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/sync/publish"
)

// A superuser wrote a row that the feed cannot carry, or into the log of changes. It is
// passed over: once the rows are mended the feed goes on by itself.
func TestWhatTheFeedCannotCarryIsLeaptOver(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	m.seals(t, func(c *publish.SealerConfig) { c.Wait = time.Millisecond })
	m.await(t, m.position(t))
	for what, poison := range map[string]string{
		"a row too large": `alter table issuer drop constraint issuer_certificate_check;
			update issuer set certificate = decode(repeat('30', 1200000), 'hex'); update issuer set certificate = '\x3000'`,
		"a hole in the log": `begin; insert into certificate values (1, '\x66', '2090-01-01Z'); set constraints all immediate;
			delete from change_body where id = (select max(id) from change_body); commit`,
		"garbage in the log": `begin; insert into certificate values (1, '\x67', '2090-01-01Z'); set constraints all immediate;
			update change_body set content = '\x00' where id = (select max(id) from change_body); commit`,
	} {
		dbtest.Exec(t, m.dsn, poison)
		m.await(t, m.position(t))
		if last := m.history(t); !last[len(last)-1].SnapshotRequired {
			t.Errorf("%s: %+v", what, last[len(last)-1])
		}
	}
	m.issue(t, 9)
	m.await(t, m.position(t))
}
