package sitedb

import (
	"slices"
	"strings"
	"testing"

	"ocspfleet/db/internal/pg"
)

func TestDriftTellsWhatStopsRows(t *testing.T) {
	var both []column
	for _, table := range replicated {
		both = append(both, column{Table: table, Name: "id", Type: "integer", Needed: true})
	}
	with := func(c column) []column { return append(slices.Clone(both), c) }
	for _, c := range []struct {
		name             string
		published, local []column
		want             string
	}{
		{"same", both, both, ""},
		{"site has one more", both, with(column{Table: "issuer", Name: "new", Type: "text"}), ""},
		{"site needs one more", both, with(column{Table: "issuer", Name: "new", Type: "text", Needed: true}), "migrate the master"},
		{"master has one more", with(column{Table: "issuer", Name: "new", Type: "text"}), both, "migrate the site first"},
		{"another type", with(column{Table: "issuer", Name: "n", Type: "text"}), with(column{Table: "issuer", Name: "n", Type: "bytea"}), "is text at the master and bytea here"},
		{"table not published", both[1:], both, "does not publish table feed_head"},
	} {
		got := drift(c.published, c.local)
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestSSLModeIsHandedOnAsWritten(t *testing.T) {
	for dsn, want := range map[string]string{
		"postgres://a@b/c?sslmode=verify-full":     "verify-full",
		"postgresql://a@b/c":                       "prefer",
		"host=a sslmode=require dbname=c":          "require",
		"host=a sslmode = 'verify-ca' dbname=c":    "verify-ca",
		"host=a dbname=nosslmode":                  "prefer",
		"postgres://a@b/c?x=y&sslmode=disable&z=1": "disable",
	} {
		if got := sslModeOf(dsn); got != want {
			t.Errorf("%s: %s, want %s", dsn, got, want)
		}
	}
}

func TestUpstreamRefusesSeveralHosts(t *testing.T) {
	_, err := OpenUpstream(t.Context(), pg.Config{DSN: "postgres://u@one,two:5433/d?sslmode=disable"})
	if err == nil || !strings.Contains(err.Error(), "several hosts") {
		t.Errorf("got %v", err)
	}
	u, err := OpenUpstream(t.Context(), pg.Config{DSN: "postgres://u@one/d?sslmode=prefer"}) // a fallback without TLS is the same host
	if err != nil {
		t.Fatal(err)
	}
	u.Close()
}
