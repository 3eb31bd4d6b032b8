package tables

import (
	"context"

	"github.com/jackc/pgx/v5"

	"ocspfleet/db"
)

// Note writes an audit entry inside the transaction of the act itself.
func Note(ctx context.Context, tx pgx.Tx, name string, what map[string]any, act db.Act) (bool, error) {
	var master bool
	err := tx.QueryRow(ctx, "select to_regprocedure('ocsp_internal.audit_append(text, jsonb, text, text)') is not null and to_regclass('public.feed_head') is not null").Scan(&master)
	if err != nil || !master {
		return false, err
	}
	var head bool
	if err := tx.QueryRow(ctx, "select exists (select from public.feed_head)").Scan(&head); err != nil || !head {
		return false, err
	}
	if what == nil {
		what = map[string]any{}
	}
	_, err = tx.Exec(ctx, "select ocsp_internal.audit_append($1, $2, $3, $4)", name, what, act.Why, act.User)
	return err == nil, err
}
