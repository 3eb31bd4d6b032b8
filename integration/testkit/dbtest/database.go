package dbtest

import (
	"testing"

	"ocspfleet/db/masterdb"
	"ocspfleet/db/publisherdb"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/tables"
)

// Database is one database as each of its users sees it. A test that plays the staff, the
// publisher and the site in turn holds one of these; each has connections of its own.
type Database struct {
	*tables.DB
	Master    *masterdb.DB
	Publisher *publisherdb.DB
	Site      *sitedb.DB
}

// Open opens a database until the test ends. Nothing is connected before it is used.
func Open(tb testing.TB, dsn string) *Database {
	tb.Helper()
	return OpenWith(tb, tables.Config{DSN: dsn})
}

// OpenWith is Open with settings.
func OpenWith(tb testing.TB, cfg tables.Config) *Database {
	tb.Helper()
	ctx := tb.Context()
	common, err := tables.Open(ctx, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(common.Close)
	master, err := masterdb.Open(ctx, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(master.Close)
	publisher, err := publisherdb.Open(ctx, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(publisher.Close)
	site, err := sitedb.Open(ctx, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(site.Close)
	return &Database{common, master, publisher, site}
}

// Close ends its connections.
func (d *Database) Close() {
	for _, end := range []func(){d.DB.Close, d.Master.Close, d.Publisher.Close, d.Site.Close} {
		end()
	}
}
