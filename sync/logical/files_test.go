package logical_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/logical"
	"ocspfleet/sync/publish"
)

// publishes has the master seal and sign, until stop.
func (p *pair) publishes() (stop func()) {
	p.t.Helper()
	if len(p.second.Set.Keys) == 0 {
		p.sealing = feedtest.Key(p.t, feedtest.Origin)
		p.second.Set.Keys = append(p.second.Set.Keys, feedtest.Named(p.sealing))
		p.newKeys()
	}
	sealer, err := publish.NewSealer(publish.SealerConfig{
		Store: p.master.Publisher, Key: p.sealing, Keys: p.second.Set, Root: p.second.Verifier(p.t), Latest: &feedhttp.Latest{},
		Wait: 10 * time.Millisecond, Confirm: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return p.goes(sealer.Run)
}

// newKeys has the root sign the key set anew.
func (p *pair) newKeys() {
	p.t.Helper()
	set := *p.second.Set
	set.Number++
	p.second.Set = &set
	p.second.Publish(p.t, p.master.Master)
}

// goes runs a worker until stop.
func (p *pair) goes(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			p.t.Errorf("a wished stop gave %v", err)
		}
	})
	p.t.Cleanup(stop)
	return stop
}

// files keeps the signed files in step, as ocspsyncd does, beside p.run's rows.
func (p *pair) files(change func(*logical.FilesConfig)) (f *logical.Files, latest *feedhttp.Latest, stop func()) {
	p.t.Helper()
	cfg := logical.FilesConfig{
		Site: p.name, Local: p.local.Site, Master: p.up, Root: p.second.Verifier(p.t), Latest: &feedhttp.Latest{},
		Interval: 50 * time.Millisecond, ProbeInterval: 200 * time.Millisecond, StallAfter: 2 * time.Second,
		Log: p.log.Logger(),
	}
	if change != nil {
		change(&cfg)
	}
	f = logical.NewFiles(cfg)
	return f, cfg.Latest, p.goes(f.Run)
}

// current waits until the site shows the master's position.
func (p *pair) current(f *logical.Files, latest *feedhttp.Latest) {
	p.t.Helper()
	p.until("the files are the master's", func() bool {
		head, err := p.master.Head(p.t.Context())
		return err == nil && latest.Newest().Position == head.Position && f.Trouble() == ""
	})
}

// With its ocspsyncd dead a native site goes on: rows, horizon and key set come through
// PostgreSQL alone, and ocspd verifies them.
func TestHorizonGoesOnWhileOcspsyncdIsStopped(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.issue("0a")
	p.publishes()
	p.start(nil)
	f, latest, stop := p.files(nil)
	p.current(f, latest)
	stop()
	p.stopRun()

	x, _ := p.responder()
	p.until("ready", func() bool { return x.Ready() == nil })
	for range 3 {
		was := x.Horizon().AsOf
		p.until("the horizon goes on", func() bool { return x.Horizon().AsOf.After(was.Add(200 * time.Millisecond)) })
	}
	p.revoke("0a", db.ReasonKeyCompromise)
	p.until("revoked", func() bool { s, _, err := x.Lookup(t.Context(), 1, serial("0a")); return err == nil && s.Permanent() })
	p.newKeys() // what is signed from now on is under the new set
	number := p.second.Set.Number
	p.until("a checkpoint under the new key set", func() bool {
		n, err := p.site.Files().FeedNote(t.Context())
		return err == nil && strings.Contains(string(n.Note), "\nkeys "+strconv.FormatInt(number, 10)+"\n")
	})
	was := x.Horizon().AsOf
	p.until("the horizon goes on under the new key set", func() bool { return x.Horizon().AsOf.After(was.Add(300 * time.Millisecond)) })
	if err := x.Ready(); err != nil {
		t.Error(err)
	}
	p.assertNobodyIsSuperuser()
}

// Who writes the site's database by hand changes a file: it is refused and named, never
// served nor believed, and the files are copied anew.
func TestAWrongFileIsNeverServed(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	seals := p.publishes()
	p.issue("0a")
	p.start(nil)
	f, latest, _ := p.files(nil)
	p.current(f, latest)
	seals()
	p.until("the last checkpoint came", func() bool {
		theirs, err := p.master.FeedNote(t.Context())
		return err == nil && string(theirs.Note) == string(latest.Newest().Note)
	})
	relay := httptest.NewServer(feedhttp.NewServer(feedhttp.ServerConfig{
		Store: p.local.Files(), Root: p.second.Verifier(t), Latest: latest, Check: f.Check, Log: slog.New(slog.DiscardHandler),
	}))
	defer relay.Close()
	get := func(path string) (int, string) {
		t.Helper()
		response, err := http.Get(relay.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	_, was := get("/feed/segment/1")
	for _, path := range []string{"/feed/segment/1", "/feed/keys", "/feed/checkpoint", "/feed/news"} {
		if code, _ := get(path); code != http.StatusOK {
			t.Errorf("%s: %d", path, code)
		}
	}
	if code, _ := get("/feed/snapshot"); code != http.StatusNotFound {
		t.Errorf("a snapshot at a site that has none: %d", code)
	}
	copied := func(what string, n int) {
		t.Helper()
		p.until(what+" is copied anew", func() bool {
			return strings.Count(p.log.String(), `msg="signed files copied"`) == n && f.Trouble() == ""
		})
	}
	dbtest.Exec(t, p.siteDSN, `update ocsp_internal.segment set body = body || '\x00' where number = 1`)
	if code, body := get("/feed/segment/1"); code != http.StatusServiceUnavailable {
		t.Errorf("a wrong segment: %d %q", code, body)
	}
	copied("the segment", 2)
	if code, body := get("/feed/segment/1"); code != http.StatusOK || body != was {
		t.Errorf("the segment copied anew: %d", code)
	}
	shown := latest.Newest()
	x, _ := p.responder()
	p.until("ready", func() bool { return x.Ready() == nil })
	believed := x.Horizon().AsOf
	dbtest.Exec(t, p.siteDSN, `update ocsp_internal.feed_checkpoint set note = replace(convert_from(note, 'UTF8'), E'\nas_of 20', E'\nas_of 21')::bytea`)
	p.until("it is named", func() bool { return strings.Contains(p.log.String(), "the newest checkpoint is not believed") })
	copied("the checkpoint", 3)
	if got := latest.Newest(); string(got.Note) != string(shown.Note) || !x.Horizon().AsOf.Equal(believed) {
		t.Errorf("shown is %+v, ocspd's horizon %v, want %+v, %v", got, x.Horizon().AsOf, shown, believed)
	}
	dbtest.Exec(t, p.siteDSN, `delete from ocsp_internal.segment`)
	dbtest.Exec(t, p.siteDSN, `update ocsp_internal.feed_checkpoint set note = note || ''`)
	if code, _ := get("/feed/segment/1"); code != http.StatusNotFound {
		t.Errorf("a segment that is gone: %d", code)
	}
}

// A files' worker that is stuck holds up no revocation and no import's pace, and is named,
// with what to look for, until it goes on.
func TestStuckFilesHoldUpNoRevocation(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.publishes()
	p.issue("0a")
	p.start(nil)
	f, latest, _ := p.files(nil)
	p.current(f, latest)
	lock := dbtest.Connect(t, p.siteDSN)
	if _, err := lock.Exec(t.Context(), "begin; lock table ocsp_internal.segment in share mode"); err != nil {
		t.Fatal(err)
	}
	p.revoke("0a", db.ReasonKeyCompromise)
	p.seenAtSite("0a", "revoked keyCompromise")
	p.until("the stuck files are named", func() bool {
		return strings.Contains(f.Trouble(), "signed files stand still") && strings.Contains(f.Trouble(), "ocspfleet_files: its worker runs: somebody holds a lock")
	})
	if got := p.state(); got.Name != logical.Streaming {
		t.Errorf("the rows: %+v", got)
	}
	var at string
	master := dbtest.Connect(t, p.masterDSN)
	if err := master.QueryRow(t.Context(), "select (pg_current_wal_insert_lsn() - '0/0')::bigint::text").Scan(&at); err != nil {
		t.Fatal(err)
	}
	p.until("imports need not wait for the files", func() bool {
		var far bool
		return master.QueryRow(t.Context(), "select coalesce(replicas_wrote() >= "+at+", true)").Scan(&far) == nil && far
	})
	if _, err := lock.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	p.current(f, latest)
}

// Whatever ends the files' subscription is mended, without a word to the rows' one.
func TestTheFilesSubscriptionIsMended(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.publishes()
	p.issue("0a")
	p.start(nil)
	f, latest, _ := p.files(func(c *logical.FilesConfig) { c.StallAfter = 500 * time.Millisecond })
	p.current(f, latest)
	for n, sql := range []string{
		"alter subscription ocspfleet_files disable",
		"select subscription_drop('ocspfleet_files')",
		// A row in the way of what comes, and one that no update finds.
		"insert into ocsp_internal.segment (epoch, number) select epoch, number + 1 from ocsp_internal.segment order by number desc limit 1; delete from ocsp_internal.feed_checkpoint",
	} {
		dbtest.Exec(t, p.siteDSN, sql)
		p.until("it is seen: "+sql, func() bool { return f.Trouble() != "" })
		p.issue(fmt.Sprintf("4%d", n))
		p.current(f, latest)
	}
	p.dropSlots()
	p.until("the slots are made anew", func() bool { return p.state().Reseeds == 2 })
	p.current(f, latest)
	p.heals()
}

// A master that shows less than it signed, restored or in other hands, is not followed: what
// came before stays here, is what peers are shown, and is handed to the master.
func TestAMasterThatGoesBackIsNamed(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	seals := p.publishes()
	p.issue("0a")
	p.start(nil)
	behind := make(chan [2][]byte, 100)
	f, latest, stop := p.files(func(c *logical.FilesConfig) {
		c.Behind = func(ours, theirs []byte) { behind <- [2][]byte{ours, theirs} }
	})
	p.current(f, latest)
	seals()
	dbtest.Exec(t, p.masterDSN, "create table kept as table feed_checkpoint")
	seals = p.publishes()
	p.revoke("0a", db.ReasonKeyCompromise)
	p.current(f, latest)
	seals()
	newest := latest.Newest()
	dbtest.Exec(t, p.masterDSN, `delete from segment where number > (select number from kept);
		update feed_checkpoint c set number = k.number, position = k.position, as_of = k.as_of, note = k.note from kept k`)
	named := func(f *logical.Files) {
		t.Helper()
		p.until("it is named", func() bool { return strings.Contains(f.Trouble(), feed.WhyBehind) })
	}
	named(f)
	if shows := <-behind; string(shows[0]) == "" || !strings.Contains(string(shows[1]), "\nsegment "+strconv.FormatInt(newest.Number-1, 10)+"\n") {
		t.Errorf("handed to the master: %q", shows)
	}
	if got := latest.Newest(); got.Position < newest.Position {
		t.Errorf("peers are shown position %d, it was %d", got.Position, newest.Position)
	}
	stop()
}

// A revoked site's slots go, both of them; so they were the site's before.
func TestBothSlotsGoWithTheSite(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.publishes()
	p.start(nil)
	f, latest, stop := p.files(nil)
	p.current(f, latest)
	if _, err := p.master.Master.AddResponder(t.Context(), p.name, "http://127.0.0.1:1/", nil, act); err != nil {
		t.Fatal(err)
	}
	var slots int
	err := dbtest.Connect(t, p.masterDSN).QueryRow(t.Context(), "select count(*) from slot_holders() where site = $1", p.name).Scan(&slots)
	if err != nil || slots != 2 {
		t.Fatalf("the site has %d slots, %v", slots, err)
	}
	if _, err := p.master.Master.RevokeResponder(t.Context(), p.name, db.ReasonKeyCompromise, act); err != nil {
		t.Fatal(err)
	}
	stop()
	p.stopRun()
	dbtest.Exec(t, p.siteDSN, "select subscription_enable('ocspfleet', false), subscription_enable('ocspfleet_files', false)")
	dropped := int64(0)
	p.until("both slots are dropped", func() bool {
		n, err := p.master.Master.DropSiteSlots(t.Context(), p.name)
		dropped += n
		return err == nil && dropped == 2
	})
}
