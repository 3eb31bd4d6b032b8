package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/script"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"

	"github.com/rogpeppe/go-internal/testscript"
)

const scriptOrigin = "ca.example/status"

// feedKeys makes the feed's keys: root.key, feed.key, master.key and site.key.
func feedKeys(env *testscript.Env) error {
	for variable, name := range map[string]string{"FEED_ROOT": "root.key", "FEED_KEY": "feed.key"} {
		key, err := feed.GenerateKey(filepath.Join(env.WorkDir, name), scriptOrigin)
		if err != nil {
			return err
		}
		env.Setenv(variable, key.Verifier())
	}
	for variable, name := range map[string]string{"MASTER_PIN": "master.key", "SITE_PIN": "site.key"} {
		path := filepath.Join(env.WorkDir, name)
		if _, err := feed.GenerateKey(path, "tls"); err != nil {
			return err
		}
		identity, err := feedhttp.LoadIdentity(path)
		if err != nil {
			return err
		}
		env.Setenv(variable, identity.Pin.String())
	}
	env.Setenv("MASTER_FEED", script.FreeAddr())
	env.Setenv("SITE_FEED", script.FreeAddr())
	return nil
}

// atMaster does something as the staff.
func atMaster(ts *testscript.TestScript, do func(*masterdb.DB) error) {
	store, err := masterdb.Open(context.Background(), tables.Config{DSN: ts.Getenv("MASTER_DSN")})
	ts.Check(err)
	defer store.Close()
	ts.Check(do(store))
}

// publishes: the root names feed.key, and the master is told.
func publishes(ts *testscript.TestScript, _ bool, _ []string) {
	atMaster(ts, func(store *masterdb.DB) error {
		head, err := store.Head(context.Background())
		if err != nil {
			return err
		}
		root, err := feed.LoadKey(ts.MkAbs("root.key"), scriptOrigin)
		if err != nil {
			return err
		}
		now := time.Now().UTC().Truncate(time.Second)
		set := feed.KeySet{
			Origin: scriptOrigin, Number: 1, Epoch: head.Epoch,
			Keys: []feed.FeedKey{{From: now.Add(-time.Hour), Until: now.Add(time.Hour), Verifier: ts.Getenv("FEED_KEY")}},
		}
		signed, err := set.Sign(root)
		if err != nil {
			return err
		}
		_, err = store.OfferKeySet(context.Background(), signed, db.Act{User: "test"})
		return err
	})
}

// issues SERIAL: registers a certificate of the one issuer.
func issues(ts *testscript.TestScript, _ bool, args []string) {
	serial, err := db.ParseSerial(args[0])
	ts.Check(err)
	atMaster(ts, func(store *masterdb.DB) error {
		ctx, act := context.Background(), db.Act{User: "test"}
		known, err := store.Issuers(ctx)
		if err != nil {
			return err
		}
		if _, err := store.AddIssuer(ctx, db.Issuer{
			Key: [32]byte{1}, Name: "issuer", Certificate: []byte{0x30, 0x00},
			Policy: db.Policy{
				Validity: 72 * time.Hour, Backdate: 5 * time.Minute, MaxStaleness: 36 * time.Hour, FreshForUnknown: 15 * time.Minute,
				HTTPMaxAge: time.Hour, NeverIssued: db.NeverIssuedUnknown, Profile: db.ProfileRevocable,
			},
		}, act); err != nil && len(known) == 0 {
			return err
		}
		_, err = store.Issue(ctx, 1, serial, time.Now().Add(24*time.Hour), act)
		return err
	})
}

// agree waits until the site has the master's rows.
func agree(ts *testscript.TestScript, _ bool, _ []string) {
	site, err := sitedb.Open(context.Background(), tables.Config{DSN: ts.Getenv("SITE_DSN")})
	ts.Check(err)
	defer site.Close()
	atMaster(ts, func(store *masterdb.DB) error {
		for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			theirs, err := store.Head(context.Background())
			ours, siteErr := site.Head(context.Background())
			if err == nil && siteErr == nil && ours.Position == theirs.Position && dbtest.Same(context.Background(), store.DB, site.DB) == nil {
				return nil
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("site and master do not agree: %+v %w, %+v %w", ours, siteErr, theirs, err)
			}
		}
	})
}

// pins SITE: puts the site on the roster with the pin of site.key.
func pins(ts *testscript.TestScript, _ bool, args []string) {
	pin, err := feedhttp.ParsePin(ts.Getenv("SITE_PIN"))
	ts.Check(err)
	atMaster(ts, func(store *masterdb.DB) error {
		if _, err := store.AddResponder(context.Background(), args[0], "http://127.0.0.1:1/", nil, db.Act{User: "test"}); err != nil {
			return err
		}
		_, err := store.SetFeedPin(context.Background(), args[0], pin, db.Act{User: "test"})
		return err
	})
}

// unpins SITE: revokes it.
func unpins(ts *testscript.TestScript, _ bool, args []string) {
	atMaster(ts, func(store *masterdb.DB) error {
		_, err := store.RevokeResponder(context.Background(), args[0], db.ReasonKeyCompromise, db.Act{User: "test"})
		return err
	})
}
