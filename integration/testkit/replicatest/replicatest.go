package replicatest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/dbtest"
)

// patience is how long a state is waited for; none takes a tenth of it.
const patience = time.Minute

var act = db.Act{User: "tester", Why: "test"}

// Source keeps one site's copy in step with one master, over a Line. It was not started yet
// when Exercise takes it.
type Source interface {
	// Start has the site's side at work, Stop ends it.
	Start()
	Stop()
	// Check has the copy counted now, as kill -HUP does.
	Check()
	// Reseed has the copy made anew, by what makes this way do so.
	Reseed()
	// Again brings what the site took last once more.
	Again()
	// Trouble is what /readyz says; empty: the copy is in step.
	Trouble() string
	// Seeds counts the copies that were made, Diverged how often one was found to differ
	// from its head.
	Seeds() int
	Diverged() int
	// String is what was logged, for a test that fails.
	String() string
}

// Pair is a master with issuer 1, whose head somebody confirms, and an empty site.
type Pair struct {
	MasterDSN, SiteDSN string // the superusers'
	Line               *Line
	Source             Source
}

// Exercise runs the ten cases, one after the other, on one pair. With -short the last one is
// left out.
func Exercise(t *testing.T, p Pair) {
	for i, c := range []struct {
		name string
		run  func(*exercise)
	}{
		{"insert", (*exercise).insert},
		{"revoke", (*exercise).revoke},
		{"hold and release", (*exercise).holdAndRelease},
		{"delete and purge", (*exercise).deleteAndPurge},
		{"catch-up after an outage", (*exercise).outage},
		{"duplicate", (*exercise).duplicate},
		{"master dead", (*exercise).masterDead},
		{"divergence found", (*exercise).divergence},
		{"tampering found", (*exercise).tampering},
		{"re-seed under load", (*exercise).reseedUnderLoad},
	} {
		ran := t.Run(c.name, func(t *testing.T) {
			if testing.Short() && i == 9 {
				t.Skip("takes as long as all the others")
			}
			x := &exercise{T: t, Pair: p, master: dbtest.Open(t, p.MasterDSN), site: dbtest.Open(t, p.SiteDSN)}
			c.run(x)
			x.equal()
		})
		if !ran {
			return // the pair is not as the next one wants it
		}
	}
}

// exercise is one case.
type exercise struct {
	*testing.T
	Pair
	master, site *dbtest.Database
}

// until waits for a state.
func (x *exercise) until(what string, is func() error) {
	x.Helper()
	err := errors.New("it was never looked at")
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = is(); err == nil {
			return
		}
	}
	x.Fatalf("never: %s: %v\ntrouble: %s\n%s", what, err, x.Source.Trouble(), x.Source)
}

// equal waits until the site has the master's rows, recounted, at its position, and the
// source is content.
func (x *exercise) equal() {
	x.Helper()
	x.until("the site is as the master", func() error {
		want, err := x.master.Head(x.Context())
		if err != nil {
			return err
		}
		got, err := x.site.Head(x.Context())
		if err != nil {
			return err
		}
		if got.Epoch != want.Epoch || got.Position != want.Position {
			return fmt.Errorf("the site is at position %d of epoch %d, the master at %d of %d", got.Position, got.Epoch, want.Position, want.Epoch)
		}
		if err := dbtest.Same(x.Context(), x.master.DB, x.site.DB); err != nil {
			return err
		}
		if trouble := x.Source.Trouble(); trouble != "" {
			return errors.New(trouble)
		}
		return nil
	})
}

// says is what the site's copy has of a serial.
func (x *exercise) says(serial string) string {
	status, err := x.site.Certificate(x.Context(), 1, parse(serial))
	switch {
	case errors.Is(err, db.ErrNotIssued):
		return "never issued"
	case err != nil:
		return err.Error()
	case !status.Revoked:
		return "good"
	}
	return "revoked " + status.Reason.String()
}

func (x *exercise) seen(serial, want string) {
	x.Helper()
	x.until(serial+" is "+want, func() error {
		if got := x.says(serial); got != want {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}

// seeded runs f, and says how many copies were made meanwhile.
func (x *exercise) seeded(f func()) int {
	before := x.Source.Seeds()
	f()
	return x.Source.Seeds() - before
}

func (x *exercise) issue(serials ...string) {
	x.Helper()
	for _, serial := range serials {
		if _, err := x.master.Master.Issue(x.Context(), 1, parse(serial), time.Now().AddDate(1, 0, 0), act); err != nil {
			x.Fatal(err)
		}
	}
}

func (x *exercise) revokes(serial string, reason db.Reason) {
	x.Helper()
	if _, _, err := x.master.Master.Revoke(x.Context(), 1, parse(serial), reason, time.Time{}, act); err != nil {
		x.Fatal(err)
	}
}

// person opens the master as a login of its own.
func (x *exercise) person(name string) *masterdb.DB {
	x.Helper()
	const password = "a password for tests"
	if err := x.master.Master.CreateLogin(x.Context(), name, db.RoleOperator, password, act); err != nil {
		x.Fatal(err)
	}
	u, err := url.Parse(x.MasterDSN)
	if err != nil {
		x.Fatal(err)
	}
	u.User = url.UserPassword(name, password)
	return dbtest.Open(x.T, u.String()).Master
}

func parse(serial string) db.Serial {
	raw, err := hex.DecodeString(serial)
	if err != nil {
		panic(err)
	}
	return raw
}
