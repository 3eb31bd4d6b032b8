package schema

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"ocspfleet/db/tables"
	"ocspfleet/migrations"
)

const (
	// every is how often the catalogs are read: it takes some 20 ms.
	every = time.Minute
	// soon is how often while there is drift, so that a repair shows.
	soon = 5 * time.Second
	// shown is how many of the drifted objects a reason names.
	shown = 3
)

// Watch checks the schema again and again. Run is called once; Fault is safe for concurrent use.
type Watch struct {
	Store *tables.DB
	Role  migrations.Role
	Log   *slog.Logger

	fault atomic.Pointer[string]
}

// Fault says what is different in the schema, and the fix; empty: nothing.
func (w *Watch) Fault() string {
	if fault := w.fault.Load(); fault != nil {
		return *fault
	}
	return ""
}

// Run checks until ctx ends, and returns nil then. While the database is away the last result
// counts.
func (w *Watch) Run(ctx context.Context) error {
	for {
		w.compare(ctx)
		wait := every
		if w.Fault() != "" {
			wait = soon
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func (w *Watch) compare(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, every)
	defer cancel()
	if w.Store.CheckSchema(ctx, string(w.Role)) != nil {
		return // a newer program has migrated it: this one must be restarted, the schema is not at fault
	}
	live, err := w.Store.Shape(ctx, migrations.ShapeSQL, migrations.FactLine)
	if err != nil {
		return // the database's follower reports that it is away
	}
	drift, _ := migrations.SchemaDrift(w.Role, live)
	fault := ""
	if len(drift) > 0 {
		fault = "schema: " + strings.Join(drift[:min(len(drift), shown)], "; ")
		if more := len(drift) - shown; more > 0 {
			fault += fmt.Sprintf("; and %d more", more)
		}
		fault += ": ocspctl db migrate --repair"
	}
	switch before := w.Fault(); {
	case fault == before:
	case fault == "":
		w.Log.InfoContext(ctx, "schema is as it must be again")
	default:
		w.Log.ErrorContext(ctx, "schema was changed", slog.String("error", fault))
	}
	w.fault.Store(&fault)
}
