package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/devfleet"

	"golang.org/x/crypto/ocsp"
)

// The suite that both ways of syncing must pass: site-a follows the signed feed,
// site-b native replication.
func TestBothWaysOfSyncingConform(t *testing.T) {
	f := shared(t)
	for _, site := range lasting(f) {
		t.Run(site.Sync, func(t *testing.T) {
			c := &conformer{t, f, site, f.Issuers[0]}
			c.insertRevokeHoldRelease()
			c.duplicates()
			c.outage()
			c.localDamage("delete", "delete from certificate where serial = '\\x%s'")
			c.localDamage("un-revoke", "update certificate set revoked_at = null, reason = null where serial = '\\x%s'")
		})
	}
}

// conformer asks one site.
type conformer struct {
	*testing.T
	f      *devfleet.Fleet
	site   devfleet.Site
	issuer devfleet.Issuer
}

func (c *conformer) ctl(args ...string) {
	c.Helper()
	args = append(args[:2:2], append([]string{"--issuer", c.issuer.Name, "--apply"}, args[2:]...)...)
	if out, err := c.f.Ctl(c.Context(), args...); err != nil {
		c.Fatalf("%v\n%s", err, out)
	}
}

func (c *conformer) says(serial string, status int) {
	c.Helper()
	await(c.T, c.f, c.site, c.issuer, serial, status, 2*patience)
}

func (c *conformer) insertRevokeHoldRelease() {
	serial := fmt.Sprintf("6c%030x", time.Now().UnixNano())
	c.says(serial, ocsp.Unknown)
	c.ctl("cert", "issue", "--serial", serial, "--not-after", "2039-12-31T23:59:59Z")
	c.says(serial, ocsp.Good)
	c.ctl("cert", "hold", "--serial", serial)
	c.says(serial, ocsp.Revoked)
	c.ctl("cert", "release", "--serial", serial)
	c.says(serial, ocsp.Good)
	c.ctl("cert", "revoke", "--serial", serial, "--reason", "superseded")
	c.says(serial, ocsp.Revoked)
}

// duplicates has the site's daemon killed and started again amid changes, so that
// it meets what it has taken already.
func (c *conformer) duplicates() {
	for range 3 {
		serial := fresh(c.T, c.issuer)
		c.ctl("cert", "revoke", "--serial", serial, "--reason", "superseded")
		c.restart("/ocspsyncd")
		c.says(serial, ocsp.Revoked)
	}
	whole(c.T, c.f, 2*patience, c.site.Name+"/ocspsyncd", c.site.Name+"/ocspd")
	c.equals()
}

func (c *conformer) restart(part string) {
	c.Helper()
	err := c.f.Kill(c.Context(), c.site.Name+part)
	if err == nil {
		err = c.f.Start(c.Context(), c.site.Name+part)
	}
	if err != nil {
		c.Fatal(err)
	}
}

// outage: the site misses everything for a while.
func (c *conformer) outage() {
	for _, part := range []string{"/ocspsyncd", "/postgres"} {
		if err := c.f.Kill(c.Context(), c.site.Name+part); err != nil {
			c.Fatal(err)
		}
	}
	var missed []string
	for range 5 {
		missed = append(missed, fresh(c.T, c.issuer))
		c.ctl("cert", "revoke", "--serial", missed[len(missed)-1], "--reason", "keyCompromise")
	}
	c.says(fresh(c.T, c.issuer), ocsp.Good) // from memory
	for _, part := range []string{"/postgres", "/ocspsyncd"} {
		if err := c.f.Start(c.Context(), c.site.Name+part); err != nil {
			c.Fatal(err)
		}
	}
	for _, serial := range missed {
		c.says(serial, ocsp.Revoked)
	}
	whole(c.T, c.f, 2*patience, c.site.Name+"/ocspsyncd", c.site.Name+"/ocspd")
	c.equals()
}

// localDamage changes a revoked row behind the back of the sync: the index finds
// it, good ends, the permanent revocation is said throughout, and the copy is
// seeded anew while clients ask.
func (c *conformer) localDamage(name, sql string) {
	serial := fresh(c.T, c.issuer)
	c.ctl("cert", "revoke", "--serial", serial, "--reason", "keyCompromise")
	c.says(serial, ocsp.Revoked)
	c.equals()
	refused := c.logged("snapshot refused")
	stop := c.always(serial, ocsp.Revoked)
	dbtest.Exec(c.T, c.site.SuperuserDSN, fmt.Sprintf(sql, serial))
	c.eventually(name+": the damage is found", func() error {
		if c.logged("snapshot refused") == refused {
			return errors.New("ocspd refused no snapshot")
		}
		return nil
	})
	c.eventually(name+": healed", func() error { return c.f.Ready(c.Context(), c.site.Name+"/ocspd", c.site.Name+"/ocspsyncd") })
	c.equals()
	stop()
	c.says(fresh(c.T, c.issuer), ocsp.Good)
}

// always asks for a serial again and again until stop, and fails the test when an
// answer says something else.
func (c *conformer) always(serial string, status int) (stop func()) {
	ctx, cancel := context.WithCancel(c.Context())
	var asking sync.WaitGroup
	asked := 0
	asking.Go(func() {
		for ctx.Err() == nil {
			answer, err := c.f.Ask(ctx, c.site, c.issuer, serial)
			if err == nil && answer.Status != status {
				c.Errorf("amid the damage %s said %s for %s", c.site.Name, devfleet.StatusName(answer.Status), serial)
			}
			if err == nil {
				asked++
			}
		}
	})
	return func() {
		cancel()
		asking.Wait()
		if asked == 0 {
			c.Error("nobody was answered meanwhile")
		}
	}
}

// logged counts how often ocspd said something.
func (c *conformer) logged(text string) int {
	c.Helper()
	raw, err := os.ReadFile(c.f.Dir() + "/log/" + c.site.Name + "-ocspd.log")
	if err != nil {
		c.Fatal(err)
	}
	return strings.Count(string(raw), text)
}

func (c *conformer) eventually(what string, is func() error) {
	c.Helper()
	err := errors.New("never tried")
	for deadline := time.Now().Add(2 * patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = is(); err == nil {
			return
		}
	}
	c.Fatalf("%s: %v", what, err)
}

// equals waits until the site's rows are the master's: same head, and the rows
// are counted and digested as it says.
func (c *conformer) equals() {
	c.Helper()
	master, site := openDB(c.T, c.f.Master.SuperuserDSN), openDB(c.T, c.site.SuperuserDSN)
	c.eventually(c.site.Name+" equals the master", func() error { return sameRows(c.Context(), master, site) })
}

func openDB(t *testing.T, dsn string) *masterdb.DB {
	t.Helper()
	store, err := masterdb.Open(t.Context(), tables.Config{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

func sameRows(ctx context.Context, master, site *masterdb.DB) error {
	want, err := master.Head(ctx)
	if err != nil {
		return err
	}
	got, err := site.Head(ctx)
	if err != nil {
		return err
	}
	if got.Position != want.Position {
		return fmt.Errorf("the site is at position %d, the master at %d", got.Position, want.Position)
	}
	return dbtest.Same(ctx, master.DB, site.DB)
}

// A site without anything seeds wholly from a peer while the master is dead.
func TestANewSiteSeedsFromAPeerWithTheMasterDead(t *testing.T) {
	f := shared(t)
	c := f.Sites[2] // it knows site-a alone
	if err := f.Kill(t.Context(), "site-c/ocspsyncd"); err != nil {
		t.Fatal(err)
	}
	revoke(t, f, f.Issuers[0], fresh(t, f.Issuers[0]))
	(&conformer{t, f, f.Sites[0], f.Issuers[0]}).equals()
	for _, part := range []string{"master/ocspsyncd", "master/postgres"} {
		if err := f.Kill(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	dbtest.Exec(t, c.SuperuserDSN, `truncate feed_head, issuer, certificate, responder_certificate, correction, closed_pin, segment,
		feed_checkpoint, feed_keys, snapshot, snapshot_chunk, feed_anchor`)
	if err := f.Start(t.Context(), "site-c/ocspsyncd"); err != nil {
		t.Fatal(err)
	}
	peer, fresh := openDB(t, f.Sites[0].SuperuserDSN), openDB(t, c.SuperuserDSN)
	conformer := &conformer{t, f, c, f.Issuers[0]}
	conformer.eventually("site-c has what site-a has", func() error { return sameRows(t.Context(), peer, fresh) })
	conformer.eventually("its ocspd serves it", func() error { return f.Ready(t.Context(), "site-c/ocspd") })
	for _, part := range []string{"master/postgres", "master/ocspsyncd"} {
		if err := f.Start(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	whole(t, f, 2*patience)
}

// Every site has the newest signed checkpoint, the one by native replication, too,
// and anybody with a pinned key can judge what it relays.
func TestEverySiteRelaysWhatItVerified(t *testing.T) {
	f := shared(t)
	for n, site := range f.Sites {
		asker := f.Sites[(n+1)%len(f.Sites)]
		config := f.Path(asker.ConfigDir) + "/ocspctl.yaml"
		pin := pinAt(t, f, f.Path(site.ConfigDir))
		for _, path := range []string{"/feed/checkpoint", "/feed/keys", "/feed/snapshot"} {
			out, err := exec.CommandContext(t.Context(), f.Path(f.Ocspctl), "--config", config, "feed", "verify", f.RelayURL(n)+path, "--pin", pin).CombinedOutput()
			if site.Sync == "logical" && path == "/feed/snapshot" { // the master publishes none to it
				if err == nil || !strings.Contains(string(out), "it is not here") {
					t.Errorf("%s asks %s, which has no snapshot, for one: %v\n%s", asker.Name, site.Name, err, out)
				}
				continue
			}
			if err != nil || !strings.Contains(string(out), "It is as it was signed") {
				t.Errorf("%s asks %s for %s: %v\n%s", asker.Name, site.Name, path, err, out)
			}
		}
	}
}

// pinAt is the pin of the TLS key in a folder of configurations.
func pinAt(t *testing.T, f *devfleet.Fleet, dir string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), f.Path(f.Ocspctl), "key", "pin", "--file", dir+"/feed-tls.key").CombinedOutput()
	_, pin, found := strings.Cut(string(out), "pin ")
	if err != nil || !found {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.Fields(pin)[0]
}
