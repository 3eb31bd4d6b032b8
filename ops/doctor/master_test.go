package doctor_test

import (
	"errors"
	"testing"
	"time"

	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
	"ocspfleet/ops/doctor"
)

// A master that cannot sign, and one whose PostgreSQL lets no native site follow.
func TestDoctorOfAMasterThatCannotSign(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Migrated(t, dbtest.Cluster(t, map[string]string{"wal_level": "replica"}), "master", migrations.Master)
	store, err := masterdb.Open(t.Context(), tables.Config{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	now := time.Now()
	if err := store.InitHead(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	head, err := store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	examine := func(p *doctor.Publisher) []doctor.Result {
		return doctor.Master{Store: store, Now: func() time.Time { return now }, Publisher: p, NoPublisher: "it is not there"}.Examine(t.Context())
	}
	all := examine(nil)
	want(t, all, doctor.Warn, "ocspsyncd", "not looked at: it is not there")
	want(t, all, doctor.Warn, "settings", "wal_level is replica: sites can follow by the feed alone")
	dbtest.Exec(t, dsn, "insert into responder (name, url) values ('site-a', 'http://a.example/')")
	for _, c := range []struct {
		p     doctor.Publisher
		level doctor.Level
		check string
		text  string
	}{
		{doctor.Publisher{}, doctor.Fail, "ocspsyncd", "connection refused"},
		{doctor.Publisher{}, doctor.Fail, "settings", "wal_level is replica: sites without a feed key"},
		{doctor.Publisher{Root: true}, doctor.Warn, "feed keys", "no key set is in force: no correction is believed"},
		{doctor.Publisher{Root: true, Signs: true}, doctor.Fail, "feed keys", "no key set is in force: nothing is signed"},
		{doctor.Publisher{Root: true, Signs: true, Epoch: 1, Keys: doctor.FeedKeys{Number: 3}}, doctor.Fail, "feed keys", "set 3 is for epoch 1, this master is in epoch"},
		{doctor.Publisher{Root: true, Signs: true, Epoch: head.Epoch, Keys: doctor.FeedKeys{Number: 3, Until: now}}, doctor.Fail, "feed keys", "all keys of set 3 have ended"},
		{doctor.Publisher{Root: true, Signs: true, Epoch: head.Epoch, Keys: doctor.FeedKeys{Number: 3, Until: now.Add(time.Hour + 30*time.Second)}}, doctor.Warn, "feed keys", "the last key of set 3 ends in 1h0m"},
		{doctor.Publisher{Root: true, Epoch: head.Epoch, Keys: doctor.FeedKeys{Number: 3}}, doctor.OK, "feed keys", "set 3 is the pinned root's, and for this epoch"},
		{doctor.Publisher{Root: true, Keys: doctor.FeedKeys{Err: errors.New("not its key")}}, doctor.Fail, "feed keys", "not its key"},
	} {
		c.p.Admin = "127.0.0.1:1"
		want(t, examine(&c.p), c.level, c.check, c.text)
	}
}
