package replicatest

import (
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
)

// insert: a row of each replicated table comes, what was there before the first start, and
// what comes after it.
func (x *exercise) insert() {
	x.issue("01")
	x.Source.Start()
	x.seen("01", "good")
	x.issue("02", "03", "04")
	x.seen("04", "good")
	dbtest.Exec(x.T, x.MasterDSN, `select certificate_issue(1, '\x50', '2099-01-01Z', '', '');
		select responder_add('site-a', 'http://a', '{}', '', '');
		insert into responder_planned values (1, '\x50', 'site-a', sha256('k'), '2020-01-01Z', '2099-01-01Z');
		select responder_certificate_add(1, '\x50', 'site-a', sha256('k'), '\x3000', '', '');
		update issuer set max_staleness = 7200;
		insert into closed_pin values (sha256('a site that was revoked'))`)
	x.equal()
	if n := x.Source.Seeds(); n != 1 {
		x.Errorf("%d copies were made, want the first alone", n)
	}
}

func (x *exercise) revoke() {
	x.revokes("01", db.ReasonKeyCompromise)
	x.seen("01", "revoked keyCompromise")
	x.revokes("02", db.ReasonSuperseded)
	x.seen("02", "revoked superseded")
	x.revokes("02", db.ReasonKeyCompromise) // graver
	x.seen("02", "revoked keyCompromise")
}

func (x *exercise) holdAndRelease() {
	for range 2 {
		if _, _, err := x.master.Master.Hold(x.Context(), 1, parse("03"), act); err != nil {
			x.Fatal(err)
		}
		x.seen("03", "revoked certificateHold")
		if _, err := x.master.Master.Release(x.Context(), 1, parse("03"), act); err != nil {
			x.Fatal(err)
		}
		x.seen("03", "good")
	}
	if _, _, err := x.master.Master.Hold(x.Context(), 1, parse("03"), act); err != nil {
		x.Fatal(err)
	}
	x.revokes("03", db.ReasonKeyCompromise)
	x.seen("03", "revoked keyCompromise")
}

// deleteAndPurge: a row goes by itself, others as two persons agreed; with them comes the
// mark, and the site's memory of what was revoked stays.
func (x *exercise) deleteAndPurge() {
	dbtest.Exec(x.T, x.MasterDSN, `delete from certificate where serial = '\x04'`)
	x.seen("04", "never issued")
	dbtest.Exec(x.T, x.MasterDSN, `insert into certificate (issuer_id, serial, not_after, revoked_at, reason)
		values (1, '\x61', '2021-01-01Z', null, null), (1, '\x62', '2021-01-01Z', '2020-12-01Z', 1)`)
	x.seen("62", "revoked keyCompromise")
	before := time.Date(2021, 2, 1, 0, 0, 0, 0, time.UTC)
	id, _, err := x.person("test_anna").RequestPurge(x.Context(), 1, before, act)
	if err == nil {
		err = x.person("test_bert").Approve(x.Context(), id, act)
	}
	if err == nil {
		_, err = x.master.Master.Purge(x.Context(), 1, act)
	}
	if err != nil {
		x.Fatal(err)
	}
	x.seen("61", "never issued")
	x.seen("62", "never issued")
	x.equal()
	var mark time.Time
	if err := dbtest.Connect(x.T, x.SiteDSN).QueryRow(x.Context(), "select purge_before from feed_head").Scan(&mark); err != nil || !mark.Equal(before) {
		x.Errorf("the site was purged up to %v, %v, want %v", mark, err, before)
	}
}

// outage: what happened meanwhile comes by itself, with no copy.
func (x *exercise) outage() {
	n := x.seeded(func() {
		x.Source.Stop()
		for n := range 30 {
			serial := fmt.Sprintf("70%02x", n)
			x.issue(serial)
			x.revokes(serial, db.ReasonSuperseded)
		}
		x.Source.Start()
		x.equal()
	})
	if n != 0 {
		x.Errorf("%d copies were made for an outage", n)
	}
}

// duplicate: what came once does no harm the second time, nor when it comes amid changes.
func (x *exercise) duplicate() {
	n := x.seeded(func() {
		for n := range 3 {
			serial := fmt.Sprintf("71%02x", n)
			x.issue(serial)
			x.revokes(serial, db.ReasonSuperseded)
			x.seen(serial, "revoked superseded")
			x.Source.Again()
			x.revokes(serial, db.ReasonKeyCompromise)
			x.Source.Again()
			x.seen(serial, "revoked keyCompromise")
		}
		x.equal()
	})
	if n != 0 {
		x.Errorf("%d copies were made for what came twice", n)
	}
}

// masterDead: the copy stays, the trouble is named, and what happened meanwhile comes by
// itself once the master is back.
func (x *exercise) masterDead() {
	x.issue("05")
	x.equal()
	n := x.seeded(func() {
		x.Line.Cut()
		x.until("the trouble is named", func() error {
			if x.Source.Trouble() == "" {
				return fmt.Errorf("all is said to be well")
			}
			return nil
		})
		x.revokes("05", db.ReasonKeyCompromise)
		if got := x.says("05"); got != "good" {
			x.Errorf("without the master the site says %s", got)
		}
		x.Line.Mend()
		x.seen("05", "revoked keyCompromise")
		x.equal()
	})
	if n != 0 {
		x.Errorf("%d copies were made since the master was away", n)
	}
}
