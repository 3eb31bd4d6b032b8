package upstream

import (
	"strings"
	"testing"

	"ocspfleet/db/internal/pg"
)

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
	_, err := Open(t.Context(), pg.Config{DSN: "postgres://u@one,two:5433/d?sslmode=disable"})
	if err == nil || !strings.Contains(err.Error(), "several hosts") {
		t.Errorf("got %v", err)
	}
	u, err := Open(t.Context(), pg.Config{DSN: "postgres://u@one/d?sslmode=prefer"}) // a fallback without TLS is the same host
	if err != nil {
		t.Fatal(err)
	}
	u.Close()
}
