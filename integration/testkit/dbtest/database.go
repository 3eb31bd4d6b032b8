package dbtest

import (
	"testing"

	"ocspfleet/db"
)

// Database is one database as each of its users sees it. A test that plays the staff, the
// publisher and the site in turn holds one of these; each has connections of its own.
type Database struct {
	*db.Common
	Master    *db.Master
	Publisher *db.Publisher
	Site      *db.Site
}

// Open opens a database until the test ends. Nothing is connected before it is used.
func Open(tb testing.TB, dsn string) *Database {
	tb.Helper()
	return OpenWith(tb, db.Config{DSN: dsn})
}

// OpenWith is Open with settings.
func OpenWith(tb testing.TB, cfg db.Config) *Database {
	tb.Helper()
	ctx := tb.Context()
	common, err := db.OpenCommon(ctx, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(common.Close)
	master, err := db.OpenMaster(ctx, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(master.Close)
	publisher, err := db.OpenPublisher(ctx, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(publisher.Close)
	site, err := db.OpenSite(ctx, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(site.Close)
	return &Database{common, master, publisher, site}
}

// Close ends its connections.
func (d *Database) Close() {
	for _, end := range []func(){d.Common.Close, d.Master.Close, d.Publisher.Close, d.Site.Close} {
		end()
	}
}
