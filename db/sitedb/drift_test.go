package sitedb

import (
	"slices"
	"strings"
	"testing"

	"ocspfleet/db"
	"ocspfleet/db/upstream"
)

func TestDriftTellsWhatStopsRows(t *testing.T) {
	var both []upstream.Column
	for _, table := range db.ReplicatedTables {
		both = append(both, upstream.Column{Table: table, Name: "id", Type: "integer", Needed: true})
	}
	with := func(c upstream.Column) []upstream.Column { return append(slices.Clone(both), c) }
	for _, c := range []struct {
		name             string
		published, local []upstream.Column
		want             string
	}{
		{"same", both, both, ""},
		{"site has one more", both, with(upstream.Column{Table: "issuer", Name: "new", Type: "text"}), ""},
		{"site needs one more", both, with(upstream.Column{Table: "issuer", Name: "new", Type: "text", Needed: true}), "migrate the master"},
		{"master has one more", with(upstream.Column{Table: "issuer", Name: "new", Type: "text"}), both, "migrate the site first"},
		{"another type", with(upstream.Column{Table: "issuer", Name: "n", Type: "text"}), with(upstream.Column{Table: "issuer", Name: "n", Type: "bytea"}), "is text at the master and bytea here"},
		{"table not published", both[1:], both, "does not publish table feed_head"},
	} {
		got := drift(c.published, c.local)
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}
