package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"ocspfleet/db"
)

// kinds are what --status takes.
var kinds = []db.Kind{db.KindAny, db.KindGood, db.KindRevoked, db.KindHold, db.KindExpired}

func (p *program) certListCommand() *cobra.Command {
	var issuer, status, since string
	var limit int64
	cmd := p.verb("list", "list an issuer's certificates by serial", `
		ocspctl cert list --issuer web-ca --status revoked --since 2026-11-01
		ocspctl cert list --issuer web-ca --status hold --output json`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			choice := db.Choice{Kind: db.Kind(status), Limit: limit}
			if !slices.Contains(kinds, choice.Kind) {
				return usagef("--status %q: want one of good, revoked, hold, expired", status)
			}
			if limit < 0 {
				return usagef("--limit %d: want 0 (all) or more", limit)
			}
			if since != "" {
				at, err := parseTime(since)
				if err != nil {
					return err
				}
				choice.Since = at
			}
			if since != "" && choice.Kind == db.KindGood {
				return usagef("--since goes with revocations: a good certificate has no time of change")
			}
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.certList(ctx, store, issuer, choice) })
		})
	cmd.Long = `The list is written as it comes from the database, whatever its length. good is
neither revoked nor expired; revoked is for ever; hold is certificateHold. With
--since only what was revoked or put on hold then or later is listed.`
	f := cmd.Flags()
	f.StringVar(&issuer, "issuer", "", "the issuer's `NAME`")
	f.StringVar(&status, "status", "", "only these: `good|revoked|hold|expired` (default: all)")
	f.StringVar(&since, "since", "", "only what was revoked at this `TIME` or later, such as 2026-11-01 or 2026-11-01T08:00:00Z")
	f.Int64Var(&limit, "limit", 0, "at most `N` (default: all)")
	require(cmd, "issuer")
	return cmd
}

func (p *program) certList(ctx context.Context, store *db.Store, name string, choice db.Choice) error {
	issuer, err := issuerNamed(ctx, store, name)
	if err != nil {
		return err
	}
	choice.Issuer = issuer.ID
	out := bufio.NewWriter(p.stdout)
	asJSON := p.output == "json"
	// Columns of fixed width: the widest row is not known beforehand.
	rows := foldOf([]int{40, 7, 20, 20, 20}, 20, p.columns())
	if asJSON {
		fmt.Fprint(out, "{\"certificates\": [")
	} else {
		out.WriteString(rows.text([]string{"SERIAL", "STATUS", "NOT AFTER", "REVOKED AT", "REASON"}))
	}
	var count int64
	err = store.List(ctx, choice, func(_ db.IssuerID, serial db.Serial, status db.Status) error {
		c := showStatus(issuer.Name, serial, status)
		count++
		if !asJSON {
			_, err := out.WriteString(rows.text([]string{c.Serial, c.Status, orDash(c.NotAfter), orDash(c.RevokedAt), orDash(c.Reason)}))
			return err
		}
		line, err := json.Marshal(c)
		if err != nil {
			return err
		}
		separator := ",\n  "
		if count == 1 {
			separator = "\n  "
		}
		_, err = fmt.Fprintf(out, "%s%s", separator, line)
		return err
	})
	if err != nil {
		return err
	}
	if asJSON {
		fmt.Fprint(out, "\n]}\n")
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("writing the list: %w", err)
	}
	return nil
}
