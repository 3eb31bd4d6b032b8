package logical_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/index"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/logical"
)

// responder is a copy as ocspd has it, from its start on; stop ends it.
func (p *pair) responder() (x *index.Index, stop func()) {
	p.t.Helper()
	root := p.second.Verifier(p.t)
	x, err := index.Open(p.t.Context(), openStore(p.t, dbtest.As(p.siteDSN, "ocsp_responder")).Site, index.Config{
		Poll: 10 * time.Millisecond,
		Trust: func(keys [][]byte) (index.Trust, error) {
			set, _, err := feed.NewestKeySet(keys, root.Name(), root)
			if err != nil {
				return index.Trust{}, err
			}
			trust := index.Trust{Corrections: set.OpenCorrections}
			if len(set.Keys) > 0 {
				trust.Checkpoint = func(signed []byte) (db.Head, error) {
					c, err := set.OpenCheckpoint(signed)
					if err != nil {
						return db.Head{}, err
					}
					return c.Head()
				}
			}
			return trust, nil
		},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- x.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			p.t.Errorf("a wished stop gave %v", err)
		}
	})
	p.t.Cleanup(stop)
	return x, stop
}

// answers is what a copy says of a serial, once it has loaded.
func (p *pair) answers(x *index.Index, s string) (status db.Status, doubt string, err error) {
	p.t.Helper()
	p.until("the copy is loaded", func() bool { return x.State().Loaded })
	status, h, err := x.Lookup(p.t.Context(), 1, serial(s))
	return status, h.Doubt, err
}

// atMaster changes the master's rows past all its rules, and its head with them.
func (p *pair) atMaster(sql string) {
	p.t.Helper()
	dbtest.Exec(p.t, p.masterDSN, `begin; set local session_replication_role = replica; `+sql+`;
		update feed_head set position = position + 1,
		  (certificate_count, certificate_digest) = (select count(*), mod64(coalesce(sum(row_digest(certificate_canonical(issuer_id, serial, not_after, revoked_at, reason))), 0)) from certificate);
		commit`)
}

// Who owns the master's database takes permanent revocations back while a site's ocspd is
// down: the apply worker brings that to the site, and the next ocspd knows nothing but
// the rows. It says revoked nevertheless, and no good at all; so does a site whose
// ocspsyncd then seeds anew. What ends it is the revocation entered again, or a correction.
func TestWhatASiteKnewRevokedOutlivesItsProcesses(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.issue("0a", "0b", "0c")
	p.revoke("0a", db.ReasonKeyCompromise)
	p.start(nil)
	p.revoke("0b", db.ReasonSuperseded) // one by the seed, one by the apply worker
	p.seenAtSite("0b", "revoked superseded")
	x, stop := p.responder()
	was := map[string]db.Status{}
	for _, s := range []string{"0a", "0b"} {
		p.until("revoked", func() bool { st, _, _ := x.Lookup(t.Context(), 1, serial(s)); return st.Permanent() })
		was[s], _, _ = x.Lookup(t.Context(), 1, serial(s))
	}
	stop()
	p.atMaster(`update certificate set revoked_at = null, reason = null where serial = '\x0a'; delete from certificate where serial = '\x0b'`)
	p.seenAtSite("0a", "good")
	p.seenAtSite("0b", "never issued")

	check := func(x *index.Index) {
		t.Helper()
		for _, s := range []string{"0a", "0b"} {
			got, doubt, err := p.answers(x, s)
			if err != nil || !got.RevokedAt.Equal(was[s].RevokedAt) || got.Reason != was[s].Reason {
				t.Errorf("ocspd says %+v of %s, %v, was %+v", got, s, err, was[s])
			}
			if !strings.Contains(doubt, "2 permanent revocations") || !strings.Contains(doubt, "ocspctl fleet lost") {
				t.Errorf("the copy's doubt is %q", doubt)
			}
		}
		if err := x.Ready(); err == nil {
			t.Error("ocspd is ready")
		}
	}
	x, stop = p.responder()
	check(x)
	stop()
	p.stopRun()
	p.dropSlots()
	p.run(nil)
	p.reaches(logical.RevocationsLost)
	x, stop = p.responder()
	check(x)

	var known []masterdb.Row // as ocspctl fleet lost enters it again
	err := p.site.Site.Known(t.Context(), 1, func(serial db.Serial, s db.Status) error {
		known = append(known, masterdb.Row{Serial: slices.Clone(serial), Status: s})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	lost, err := p.master.Master.Lost(t.Context(), 1, known)
	if err != nil || len(lost) != 2 {
		t.Fatalf("lost are %+v, %v", lost, err)
	}
	if _, _, _, err := p.master.Master.ImportBatch(t.Context(), 1, lost, masterdb.ImportSource{Form: "site"}, act); err != nil {
		t.Fatal(err)
	}
	p.heals()
	p.until("ready", func() bool { return x.Ready() == nil })
	stop()
	p.correct("0a")
	p.seenAtSite("0a", "good")
	x, _ = p.responder()
	p.until("ready", func() bool { return x.Ready() == nil })
	if got, doubt, err := p.answers(x, "0a"); err != nil || got.Revoked || doubt != "" {
		t.Errorf("after a correction ocspd says %+v, %v, %q", got, err, doubt)
	}
	if got, _, err := p.answers(x, "0b"); err != nil || !got.Permanent() {
		t.Errorf("ocspd says %+v of 0b, %v", got, err)
	}
}
