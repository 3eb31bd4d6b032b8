package replicatest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
)

// divergence: somebody writes into the copy. It is found at once, since the numbers of
// changes do not add up, and the copy is made anew: PostgreSQL itself skips an UPDATE of a
// missing row without a word, and keeps a local change for ever.
func (x *exercise) divergence() {
	x.issue("0a", "0b", "0d", "0e")
	x.revokes("0b", db.ReasonKeyCompromise)
	x.equal()
	for n, sql := range []string{
		`delete from certificate where serial = '\x0e'`,
		`update certificate set revoked_at = null, reason = null where serial = '\x0b'`,
		`insert into certificate (issuer_id, serial, not_after) values (1, '\x0c', '2030-01-01 00:00Z')`,
		`update certificate set revoked_at = '2026-01-01 00:00Z', reason = 1 where serial = '\x0d'`,
		`delete from certificate where serial = '\x0d'; update feed_head set certificate_count = certificate_count - 1, certificate_digest = mod64(certificate_digest + 18446744073709551609)`,
	} {
		x.heals(sql, func() {
			dbtest.Exec(x.T, x.SiteDSN, sql)
			x.issue(fmt.Sprintf("72%02x", n)) // the source's own writing hides nothing
		})
	}
	// The numbers add up, since the change of the missing row takes none.
	x.heals("a lost row that the master revokes", func() {
		x.Source.Stop()
		dbtest.Exec(x.T, x.SiteDSN, `delete from certificate where serial = '\x0a'`)
		x.revokes("0a", db.ReasonKeyCompromise)
		x.Source.Start()
		x.until("the position", func() error { return x.reached() })
		x.Source.Check()
	})
	x.seen("0a", "revoked keyCompromise")
}

// tampering: somebody writes past the triggers that number changes, as who wants to stay
// unseen: a count finds it. A position that is not the master's is put right, too.
func (x *exercise) tampering() {
	for _, sql := range []string{
		`update certificate set revoked_at = null, reason = null where serial = '\x0b'`,
		`update certificate set revoked_at = '2026-01-01 00:00Z', reason = 1 where serial = '\x0d'`,
		`delete from certificate where serial = '\x0e'`,
	} {
		x.heals("past the triggers: "+sql, func() {
			before := x.numbered()
			dbtest.Exec(x.T, x.SiteDSN, `begin; alter table certificate disable trigger site_touch, disable trigger site_deleted; `+sql+`;
				alter table certificate enable always trigger site_touch, enable always trigger site_deleted; commit`)
			if after := x.numbered(); after != before {
				x.Fatalf("the last number of a change here went from %d to %d: the counters tell, too", before, after)
			}
			x.Source.Check()
		})
	}
	dbtest.Exec(x.T, x.SiteDSN, "update feed_head set position = position - 1")
	x.issue("74")
	x.equal()
	x.seen("0b", "revoked keyCompromise")
	x.seen("0d", "good")
}

// numbered is the last number that a change at the site took.
func (x *exercise) numbered() int64 {
	x.Helper()
	number, err := x.site.Site.SiteSeq(x.Context())
	if err != nil {
		x.Fatal(err)
	}
	return number
}

// heals does harm to a site that begins anew, and so remembers no repair, after which it
// would wait longer; and waits until the harm is found and a new copy made.
func (x *exercise) heals(what string, harm func()) {
	x.Helper()
	x.Source.Stop()
	x.Source.Start()
	x.equal()
	seeds, found := x.Source.Seeds(), x.Source.Diverged()
	harm()
	x.until("found and made anew: "+what, func() error {
		if x.Source.Diverged() == found || x.Source.Seeds() == seeds {
			return errors.New("nothing was found")
		}
		return nil
	})
	x.equal()
}

// reached says whether the site is at the master's position, whatever its rows are. A copy
// that was made anew since is there, too.
func (x *exercise) reached() error {
	want, err := x.master.Head(x.Context())
	if err != nil {
		return err
	}
	got, err := x.site.Head(x.Context())
	if err == nil && got.Position < want.Position {
		err = fmt.Errorf("the site is at position %d of %d", got.Position, want.Position)
	}
	return err
}

// reseedUnderLoad makes the copy anew while the master changes: each snapshot of the site
// that anybody reads is whole.
func (x *exercise) reseedUnderLoad() {
	dbtest.Exec(x.T, x.MasterDSN, `insert into certificate (issuer_id, serial, not_after)
		select 1, decode('50' || lpad(to_hex(n), 8, '0'), 'hex'), '2030-01-01 00:00Z' from generate_series(1, 20000) n`)
	x.equal()
	ctx, cancel := context.WithCancel(x.Context())
	defer cancel()
	var busy sync.WaitGroup
	defer busy.Wait()
	defer cancel()
	busy.Go(func() { x.load(ctx) })
	var snapshots int
	busy.Go(func() {
		for ctx.Err() == nil {
			counts, err := x.site.Verify(ctx)
			if wrong := db.Differences(counts); wrong != "" {
				x.Errorf("snapshot %d: %s", snapshots, wrong)
			}
			if err == nil {
				snapshots++
			}
		}
	})
	for range 2 {
		head, err := x.site.Head(x.Context())
		if err != nil {
			x.Fatal(err)
		}
		before := x.Source.Seeds()
		x.Source.Reseed()
		x.until("the new copy goes on", func() error {
			now, err := x.site.Head(x.Context())
			if err == nil && (x.Source.Seeds() == before || now.Position < head.Position+200 || x.Source.Trouble() != "") {
				err = fmt.Errorf("%d copies, at position %d", x.Source.Seeds()-before, now.Position)
			}
			return err
		})
	}
	cancel()
	busy.Wait()
	if snapshots == 0 {
		x.Error("no snapshot was looked at")
	}
}

// load issues, revokes, holds, releases and deletes until ctx ends.
func (x *exercise) load(ctx context.Context) {
	conn := dbtest.Connect(x.T, x.MasterDSN)
	for ctx.Err() == nil {
		s := fmt.Sprintf("decode('60%06x', 'hex')", rand.IntN(400))
		sql := []string{
			"insert into certificate (issuer_id, serial, not_after) values (1, " + s + ", '2030-01-01 00:00Z') on conflict do nothing",
			"update certificate set revoked_at = '2026-01-01 00:00Z', reason = 6 where revoked_at is null and serial = " + s,
			"update certificate set revoked_at = null, reason = null where reason = 6 and serial = " + s,
			"update certificate set revoked_at = '2026-01-01 00:00Z', reason = 1 where revoked_at is null and serial = " + s,
			"delete from certificate where revoked_at is null and serial = " + s,
		}[rand.IntN(5)]
		if _, err := conn.Exec(ctx, sql); err != nil && ctx.Err() == nil {
			x.Errorf("the master's load: %v", err)
			return
		}
	}
}
