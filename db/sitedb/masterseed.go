package sitedb

import (
	"context"
	"errors"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/tables"
	"ocspfleet/db/upstream"
)

// MasterSeed is the master's rows as they are when a new slot is made. With them the site
// subscribes to that slot. An old slot stays. An old subscription must be disabled, so that it
// cannot get ahead of the slot.
type MasterSeed struct {
	Master *upstream.DB
	Slot   string             // to be made
	Open   db.OpenCorrections // nil: no correction is valid, for the reason Why
	Why    string
	// Progress is called with the certificates copied so far, and how many there are.
	Progress func(done, total int64) // may be nil

	source *upstream.Export
}

func (m *MasterSeed) String() string { return "the master" }

func (m *MasterSeed) begin(ctx context.Context) (err error) {
	m.source, err = m.Master.Export(ctx, m.Slot)
	return err
}

func (m *MasterSeed) end(ctx context.Context, err error) error {
	m.source.Close()
	if err != nil {
		return m.Master.GiveUp(ctx, m.Slot, err)
	}
	return nil
}

func (m *MasterSeed) columns(table string) string { return m.source.Columns[table] }

func (m *MasterSeed) corrections() (db.OpenCorrections, string) { return m.Open, m.Why }

// load copies the master's rows, the head first, and refuses them if they differ from the master's
// own head.
func (m *MasterSeed) load(ctx context.Context, s *seed) error {
	for _, table := range db.ReplicatedTables {
		var report func(int64)
		if table == "certificate" && m.Progress != nil {
			total := s.Head.Certificates.Count
			report = func(rows int64) { m.Progress(min(rows, total), total) }
		}
		columns := " (" + m.columns(table) + ")"
		if err := m.source.Copy(ctx, table+columns, s.tx, s.prefix+table+columns, report); err != nil {
			return fmt.Errorf("copying %s: %w", table, err)
		}
		if table != db.HeadTable {
			continue
		}
		var err error
		if s.Head, err = tables.ReadHeadOf(ctx, s.tx, s.prefix+table); errors.Is(err, db.ErrNoHead) {
			return errors.New("the master has no head: run ocspctl db init there")
		} else if err != nil {
			return err
		}
	}
	for _, t := range db.FeedTables {
		got, err := tables.Tally(ctx, s.tx, s.prefix+t.Name, t.Rows)
		if err != nil {
			return err
		}
		if want := *t.Tally(&s.Head); got != want {
			return fmt.Errorf("the master's rows and its head disagree at position %d (%s: %d rows with digest %x, the head says %d with %x): run ocspctl db verify at the master",
				s.Head.Position, t.Name, got.Count, got.Digest, want.Count, want.Digest)
		}
	}
	return nil
}

// settle subscribes to the slot.
func (m *MasterSeed) settle(ctx context.Context, s *seed) error {
	if _, err := s.tx.Exec(ctx, "select subscription_drop($1)", db.SubscriptionName); err != nil {
		return fmt.Errorf("dropping the old subscription: %w", err)
	}
	_, err := s.tx.Exec(ctx, "select subscription_create($1, $2, $3, $4, $5, $6, $7, $8)", append(m.Master.Address(db.SubscriptionName), m.Slot)...)
	return err
}
