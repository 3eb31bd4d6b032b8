package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/devfleet"
	"ocspfleet/integration/testkit/pgserver"
	"ocspfleet/sync/feed"

	"golang.org/x/sync/errgroup"
)

// bothWays measures the two ways of syncing, each in a fleet of three sites.
func bothWays(ctx context.Context, o options) ([]row, error) {
	var rows []row
	for _, sync := range []string{"feed", "logical"} {
		if !strings.Contains(o.ways, sync) {
			continue
		}
		some, err := oneWay(ctx, sync, o)
		if err != nil {
			return nil, fmt.Errorf("syncing by %s: %w", sync, err)
		}
		rows = append(rows, some...)
	}
	if strings.Contains(o.ways, "import") {
		some, err := importing(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("importing: %w", err)
		}
		for _, r := range some {
			r.Name = "import, one site by each way: " + r.Name
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// importing times an import of o.certs certificates in a fleet of both ways, and
// revocations meanwhile.
func importing(ctx context.Context, o options) ([]row, error) {
	f, err := devfleet.Up(ctx, devfleet.Options{Dir: ".run-bench", Bin: "bin", Sites: 2, Sync: "mixed", BasePort: o.basePort, Progress: os.Stderr})
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Down(context.WithoutCancel(ctx)) }()
	var imported []row
	done := make(chan error, 1)
	go func() {
		var err error
		imported, err = imports(ctx, f, o)
		done <- err
	}()
	var took []time.Duration
	o.revocations = 1
	for {
		select {
		case err := <-done:
			if err != nil || len(took) == 0 {
				return nil, errors.Join(err, errors.New("no revocation was seen during the import"))
			}
			slices.Sort(took)
			rows := imported[1:2]
			return append(rows, []row{
				{"revocations meanwhile", float64(len(took)), ""},
				{"commit to revoked at all sites meanwhile, p50", took[len(took)/2].Seconds(), "s"},
				{"commit to revoked at all sites meanwhile, worst", took[len(took)-1].Seconds(), "s"},
			}...), nil
		case <-time.After(time.Second):
		}
		one, err := revokeEach(ctx, f, o)
		if err != nil {
			return nil, err
		}
		took = append(took, one...)
	}
}

func oneWay(ctx context.Context, sync string, o options) ([]row, error) {
	f, err := devfleet.Up(ctx, devfleet.Options{Dir: ".run-bench", Bin: "bin", Sites: 3, Sync: sync, BasePort: o.basePort, Progress: os.Stderr})
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Down(context.WithoutCancel(ctx)) }()
	importing, stop := context.WithCancel(ctx)
	group, groupCtx := errgroup.WithContext(importing)
	group.Go(func() error { return trickle(groupCtx, f) })
	rows, err := revocations(ctx, f, o)
	stop()
	if err := errors.Join(err, group.Wait()); err != nil {
		return nil, err
	}
	for i := range rows {
		rows[i].Name = sync + ", 3 sites, 1,000/s imported meanwhile: " + rows[i].Name
	}
	if sync != "feed" || !strings.Contains(o.ways, "seed") {
		return rows, nil
	}
	some, err := seeding(ctx, f, o)
	return append(rows, some...), err
}

// trickle imports 1,000 certificates a second until ctx ends: 100 a time, each time
// one transaction.
func trickle(ctx context.Context, f *devfleet.Fleet) error {
	master, err := masterdb.Open(ctx, tables.Config{DSN: f.Master.DSN})
	if err != nil {
		return err
	}
	defer master.Close()
	issuers, err := master.Issuers(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var batch []masterdb.Row
		for range 100 {
			serial, err := randomSerial()
			if err != nil {
				return err
			}
			batch = append(batch, masterdb.Row{Serial: serial, Status: db.Status{NotAfter: time.Now().Add(24 * time.Hour), Reason: db.ReasonNone}})
		}
		if _, _, _, err := master.ImportBatch(ctx, issuers[0].ID, batch, masterdb.ImportSource{Form: "bench", File: "trickle"}, act); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// seeding imports o.certs certificates, measures the signed files, and then how
// long a site without anything takes from a snapshot to ready.
func seeding(ctx context.Context, f *devfleet.Fleet, o options) ([]row, error) {
	if _, err := imports(ctx, f, o); err != nil {
		return nil, err
	}
	master, err := masterdb.Open(ctx, tables.Config{DSN: f.Master.SuperuserDSN})
	if err != nil {
		return nil, err
	}
	defer master.Close()
	snapshot, err := freshSnapshot(ctx, master)
	if err != nil {
		return nil, err
	}
	manifest, err := feed.ParseSnapshot(string(snapshot.Note[:bytes.LastIndex(snapshot.Note, []byte("\n\n"))+1]))
	if err != nil {
		return nil, err
	}
	size, err := segmentSize(ctx, master)
	if err != nil {
		return nil, err
	}
	head, err := master.Head(ctx)
	if err != nil {
		return nil, err
	}
	site := f.Sites[2]
	for _, part := range []string{"/ocspsyncd", "/ocspd"} {
		if err := f.Kill(ctx, site.Name+part); err != nil {
			return nil, err
		}
	}
	programs, err := pgserver.Find()
	if err != nil {
		return nil, err
	}
	empty := "set search_path = public, ocsp_internal; truncate " + strings.Join(db.ReplicatedTables, ", ") + ", segment, feed_checkpoint, feed_keys, snapshot, snapshot_chunk, feed_anchor, site_revoked, site_issuer"
	if out, err := exec.CommandContext(ctx, programs+"/psql", "-qd", site.SuperuserDSN, "-c", empty).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("emptying a site: %w: %s", err, out)
	}
	began := time.Now()
	for _, part := range []string{"/ocspsyncd", "/ocspd"} {
		if err := f.Start(ctx, site.Name+part); err != nil {
			return nil, err
		}
	}
	if err := f.AwaitReady(ctx, 10*time.Minute, site.Name+"/ocspd", site.Name+"/ocspsyncd"); err != nil {
		return nil, err
	}
	count := float64(head.Certificates.Count)
	return []row{
		{"seeding by the feed, start to ready", count / time.Since(began).Seconds(), "certificates/s"},
		{"snapshot", float64(snapshot.Octets) / 1e6, "MB"},
		{"snapshot, per certificate", float64(snapshot.Octets) / float64(manifest.Tallies[0].Count), "octets"},
		{"segment, per certificate issued", size, "octets"},
	}, nil
}

// freshSnapshot waits for a snapshot that holds most of the rows. While the epoch is
// young, the next one is made when the last is as old as the epoch was.
func freshSnapshot(ctx context.Context, master *masterdb.DB) (db.Snapshot, error) {
	head, err := master.Head(ctx)
	if err != nil {
		return db.Snapshot{}, err
	}
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(time.Second) {
		snapshot, err := master.NewestSnapshot(ctx, head.Epoch)
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			return snapshot, err
		}
		if snapshot.Position > head.Position*3/4 {
			return snapshot, nil
		}
		if time.Now().After(deadline) {
			return snapshot, fmt.Errorf("waiting for a snapshot: the newest is of position %d of %d", snapshot.Position, head.Position)
		}
	}
}

// segmentSize is the octets per change of the largest segment.
func segmentSize(ctx context.Context, master *masterdb.DB) (float64, error) {
	note, err := master.FeedNote(ctx)
	if err != nil {
		return 0, err
	}
	best, size := int64(0), 0.0
	for n := note.Number; n > 0; n-- {
		segment, err := master.FeedSegment(ctx, note.Epoch, n)
		if errors.Is(err, db.ErrNotFound) {
			break
		}
		if err != nil {
			return 0, err
		}
		if _, err := feed.ParseSegment(segment.Body); err != nil {
			return 0, err
		}
		if changes := segment.Last - segment.First + 1; !segment.SnapshotRequired && changes > best {
			best, size = changes, float64(len(segment.Body))/float64(changes)
		}
	}
	return size, nil
}

// oneFleet measures a fleet of the default kind.
func oneFleet(ctx context.Context, o options) ([]row, error) {
	f, err := devfleet.Up(ctx, devfleet.Options{Dir: ".run-bench", Bin: "bin", BasePort: o.basePort, Progress: os.Stderr})
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Down(context.WithoutCancel(ctx)) }()
	var rows []row
	for _, measure := range []func(context.Context, *devfleet.Fleet, options) ([]row, error){revocations, cachedGET, imports} {
		some, err := measure(ctx, f, o)
		if err != nil {
			return nil, err
		}
		rows = append(rows, some...)
	}
	return rows, nil
}
