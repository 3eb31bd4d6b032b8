package pull_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/pull"

	"golang.org/x/mod/sumdb/note"
)

// childVariable makes this binary a puller that runs until it is killed.
const childVariable = "OCSPFLEET_TEST_PULLER"

// childConfig is what the child needs; its private key is a test's.
type childConfig struct {
	DSN, Root, URL, Pin, Seed string
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		if err := pullAsChild(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func pullAsChild(text string) error {
	var c childConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	seed, err := hex.DecodeString(c.Seed)
	if err != nil {
		return err
	}
	id, err := feedhttp.NewIdentity(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		return err
	}
	pin, err := feedhttp.ParsePin(c.Pin)
	if err != nil {
		return err
	}
	client, err := feedhttp.NewClient(feedhttp.ClientConfig{URL: c.URL, Pin: pin, Identity: id})
	if err != nil {
		return err
	}
	root, err := note.NewVerifier(c.Root)
	if err != nil {
		return err
	}
	ctx := context.Background()
	store, err := sitedb.Open(ctx, tables.Config{DSN: c.DSN})
	if err != nil {
		return err
	}
	p, err := pull.New(pull.Config{Store: store, Origin: origin, Root: root, Sources: []*feedhttp.Client{client}, Wait: time.Second, Recount: time.Hour, Log: quiet})
	if err != nil {
		return err
	}
	return p.Run(ctx)
}

// spawn starts a puller in a process of its own.
func spawn(t *testing.T, c childConfig) (kill func()) {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	cmd.Stderr = &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if errs.Len() > 0 {
			t.Errorf("the puller said: %s", errs.String())
		}
	}
}

// A puller is killed a hundred times, at random, while it applies: no gap, no
// double, and the digest is equal in the end. Kills that hit before it did anything
// do not count as proof: some of the hundred must have found it at work.
func TestPullerKilledAHundredTimes(t *testing.T) {
	if testing.Short() {
		t.Skip("kills a process a hundred times")
	}
	t.Parallel()
	m, s := newMaster(t), newSite(t)
	if _, err := m.store.Master.SetLimit(t.Context(), 1_000_000, act); err != nil { // the slower the kills, the more is revoked
		t.Fatal(err)
	}
	key := private(t)
	id, err := feedhttp.NewIdentity(key)
	if err != nil {
		t.Fatal(err)
	}
	client := serve(t, m.store, m.latest, id, nil)
	child := childConfig{
		DSN: dbtest.As(s.dsn, "ocsp_sync"), Root: m.root.Verifier(), URL: client.String(), Pin: client.Pin().String(), Seed: hex.EncodeToString(key.Seed()),
	}
	kill := spawn(t, child) // the first one seeds in peace
	s.equals(t, m)
	kill()
	writing, stopWriting := context.WithCancel(t.Context())
	written := make(chan struct{})
	go func() { // the master is never idle, so that each kill finds something to break
		defer close(written)
		for n := 0; writing.Err() == nil; n++ {
			_, err := m.store.Master.Issue(writing, 1, serial(n), time.Now().Add(24*time.Hour), act)
			if err == nil && n%40 == 0 {
				_, _, err = m.store.Master.Revoke(writing, 1, serial(n), db.ReasonSuperseded, time.Time{}, act)
			}
			if err != nil && writing.Err() == nil {
				t.Error(err)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	position := func() int64 {
		head, err := s.store.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return head.Position
	}
	last, began := position(), time.Now()
	kill = spawn(t, child)
	for tries := 0; position() == last && tries < 30_000; tries++ {
		time.Sleep(2 * time.Millisecond)
	}
	start := time.Since(began) // what a puller takes to its first segment, on this machine now
	kill()
	moved := 0
	for kills := 0; kills < 100 || moved < 10 && kills < 500; kills++ {
		kill := spawn(t, child)
		time.Sleep(rand.N(start * 3 / 2))
		kill()
		if at := position(); at > last {
			moved, last = moved+1, at
		}
	}
	stopWriting()
	<-written
	if moved < 10 {
		t.Errorf("only %d of 100 pullers had applied something before they were killed", moved)
	}
	defer spawn(t, child)()
	s.equals(t, m)
	s.dense(t, m)
}

// dense says that the segments which the site keeps follow each other without a gap,
// each once, up to the anchor.
func (s *site) dense(t *testing.T, m *master) {
	t.Helper()
	copied, err := s.store.Site.FeedCopy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var rows, least, most int64
	err = dbtest.Connect(t, s.dsn).QueryRow(t.Context(), "select count(*), min(number), max(number) from segment where epoch = $1", m.keys.Epoch).Scan(&rows, &least, &most)
	if err != nil || rows != most-least+1 || most != copied.Anchor.Number {
		t.Errorf("%d segments from %d to %d are kept, the copy stands on %d (%v)", rows, least, most, copied.Anchor.Number, err)
	}
	for n := least; n <= most; n++ {
		ours, err := s.store.FeedSegment(t.Context(), m.keys.Epoch, n)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := m.store.FeedSegment(t.Context(), m.keys.Epoch, n)
		if err != nil || ours.Hash != theirs.Hash || !bytes.Equal(ours.Body, theirs.Body) || !bytes.Equal(ours.Note, theirs.Note) {
			t.Errorf("segment %d is not the master's (%v)", n, err)
		}
	}
}
