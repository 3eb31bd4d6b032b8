package sitedb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// adopt refuses a step that the copy must not take in, even if it is signed.
func (step FeedStep) adopt(ctx context.Context, conn pg.Querier, head db.Head, old []map[string][]byte) error {
	a := &db.Adoption{Ended: db.Ended(time.Now(), step.Head.AsOf), AsOf: step.Head.AsOf, Open: step.Open}
	changed := make([]map[string]db.Change, len(db.FeedTables))
	judge := false // a step of good certificates does not need the lists
	for i, t := range db.FeedTables {
		var err error
		if changed[i], err = statesOf(t, step.Changes, head.Position); err != nil {
			return err
		}
		judge = judge || (t.Code == db.CorrectionTable || t.Code == db.IssuerTable) && len(changed[i]) > 0
		if t.Code != db.CertificateTable {
			continue
		}
		err = eachState(changed[i], old[i], func(_ db.IssuerID, _ db.Serial, was, next *db.Status) error {
			judge = judge || db.Suspect(was, next, a.Ended, head.Corrections.Count)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if !judge {
		return nil
	}
	if err := readLists(ctx, a, conn, changed); err != nil {
		return err
	}
	for i, t := range db.FeedTables {
		if t.Code == db.CertificateTable {
			if err := eachState(changed[i], old[i], a.Certificate); err != nil {
				return err
			}
		}
	}
	return a.Lists(func(issuer db.IssuerID, each func(db.Serial, db.Status) error) error {
		return eachRevocation(ctx, conn, issuer, each)
	})
}

// eachState calls each with the old and the new state of each certificate.
func eachState(changed map[string]db.Change, old map[string][]byte, each func(db.IssuerID, db.Serial, *db.Status, *db.Status) error) error {
	for key, c := range changed {
		issuer, serial, err := db.ParseCertificateKey([]byte(key))
		if err != nil {
			return err
		}
		var was, next *db.Status
		if content, there := old[key]; there {
			if was, err = statusOf(content); err != nil {
				return err
			}
		}
		if !c.Deleted {
			if next, err = statusOf(c.Content); err != nil {
				return err
			}
		}
		if err := each(issuer, serial, was, next); err != nil {
			return err
		}
	}
	return nil
}

func statusOf(content []byte) (*db.Status, error) {
	_, _, status, err := db.ParseCertificate(content)
	return &status, err
}

// readLists reads the copy's lists, and computes the lists after the step.
func readLists(ctx context.Context, a *db.Adoption, conn pg.Querier, changed []map[string]db.Change) error {
	for i, t := range db.FeedTables {
		if t.Code != db.CorrectionTable && t.Code != db.IssuerTable {
			continue
		}
		contents, err := contentsOf(ctx, t, conn, t.Name)
		if err != nil {
			return err
		}
		var next [][]byte
		for _, content := range contents {
			key, err := t.KeyOf(content)
			if err != nil {
				return err
			}
			if _, changes := changed[i][key]; !changes {
				next = append(next, content)
			}
		}
		for _, c := range changed[i] {
			if !c.Deleted {
				next = append(next, c.Content)
			}
		}
		if err := errors.Join(addTo(&a.Held, t, contents), addTo(&a.Next, t, next)); err != nil {
			return err
		}
	}
	return nil
}

// contentsOf returns the canonical bytes of all rows of this table, or of one like it.
func contentsOf(ctx context.Context, t db.FeedTable, conn pg.Querier, name string) ([][]byte, error) {
	rows, err := conn.Query(ctx, "select "+t.Rows+" from "+name+" t")
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", t.Name, pg.Plain(err))
	}
	contents, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", t.Name, pg.Plain(err))
	}
	return contents, nil
}

// addTo adds the rows of one table.
func addTo(l *db.Lists, t db.FeedTable, contents [][]byte) error {
	for _, content := range contents {
		switch t.Code {
		case db.CorrectionTable:
			c, err := db.ParseCorrection(content)
			if err != nil {
				return err
			}
			l.Corrections = append(l.Corrections, c)
		case db.IssuerTable:
			i, err := db.ParseIssuer(content)
			if err != nil {
				return err
			}
			l.Issuers = append(l.Issuers, i)
		}
	}
	return nil
}

// eachRevocation calls each with the remembered revocations of an issuer.
func eachRevocation(ctx context.Context, conn pg.Querier, issuer db.IssuerID, each func(db.Serial, db.Status) error) error {
	rows, err := conn.Query(ctx, selectRemembered+" and issuer_id = $2", 0, int32(issuer))
	if err != nil {
		return fmt.Errorf("reading what is remembered: %w", pg.Plain(err))
	}
	all, err := pgx.CollectRows(rows, scanRemembered)
	if err != nil {
		return fmt.Errorf("reading what is remembered: %w", pg.Plain(err))
	}
	for _, r := range all {
		if err := each(r.Serial, r.Status); err != nil {
			return err
		}
	}
	return nil
}
