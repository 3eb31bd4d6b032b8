package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/ops/config"
	"ocspfleet/sync/feed"
)

const origin = "ca.example/status"

func feedKey(t *testing.T) *feed.Key {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := feed.NewKey(origin, private)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// keySet is a set of one key with a checkpoint under it.
func keySet(t *testing.T, root, key *feed.Key, number int64) (checkpoint, keys []byte) {
	t.Helper()
	now := time.Now()
	set := feed.KeySet{Origin: origin, Number: number, Epoch: 1, Keys: []feed.FeedKey{
		{From: now.Add(-time.Hour).Truncate(time.Second), Until: now.Add(time.Hour).Truncate(time.Second), Verifier: key.Verifier()},
	}}
	keys, err := set.Sign(root)
	if err != nil {
		t.Fatal(err)
	}
	c := feed.NewCheckpoint(origin, db.Head{Epoch: 1, Position: 7, AsOf: now, AuditHash: make([]byte, 32)}, time.Time{})
	c.KeySet = number
	if checkpoint, err = c.Sign(key); err != nil {
		t.Fatal(err)
	}
	return checkpoint, keys
}

// judgeOf is what judges a site's checkpoints from the daemon's start on.
func judgeOf(f config.OcspdFeed) (func(checkpoint, keys []byte) (db.Head, error), error) {
	t, err := openTrusted(f)
	if err != nil {
		return nil, err
	}
	trust := t.trust()
	return func(checkpoint, keys []byte) (db.Head, error) {
		believed, err := trust([][]byte{keys})
		if err != nil {
			return db.Head{}, err
		}
		return believed.Checkpoint(checkpoint)
	}, nil
}

// A set that was replaced is not believed again: while the process lives, and with
// feed.state by the next one, too.
func TestReplacedKeySetIsNotBelievedAgain(t *testing.T) {
	root, stolen, key := feedKey(t), feedKey(t), feedKey(t)
	oldNote, oldKeys := keySet(t, root, stolen, 1)
	newNote, newKeys := keySet(t, root, key, 2)
	path := filepath.Join(t.TempDir(), "feed-state")
	for _, f := range []config.OcspdFeed{{Root: root.Verifier()}, {Root: root.Verifier(), State: path}} {
		f.Check(func(key, problem string) { t.Errorf("%s %s", key, problem) })
		judge, err := judgeOf(f)
		if err != nil {
			t.Fatal(err)
		}
		for step, c := range []struct {
			note, keys []byte
			believed   bool
		}{{oldNote, oldKeys, true}, {newNote, newKeys, true}, {oldNote, oldKeys, false}, {newNote, newKeys, true}} {
			head, err := judge(c.note, c.keys)
			if (err == nil) != c.believed || err == nil && head.Position != 7 || err != nil && !errors.Is(err, feed.ErrForged) {
				t.Errorf("state %q, step %d: %+v, %v", f.State, step, head, err)
			}
		}
		restarted, err := judgeOf(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = restarted(oldNote, oldKeys); (err == nil) != (f.State == "") {
			t.Errorf("state %q, after a restart: %v", f.State, err)
		}
		if _, err = restarted(newNote, newKeys); err != nil {
			t.Errorf("state %q, after a restart the set that was kept: %v", f.State, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the state file: %v, %v", info, err)
	}
	// Another root, newly pinned, counts from one again.
	other := feedKey(t)
	note, keys := keySet(t, other, key, 1)
	judge, err := judgeOf(config.OcspdFeed{Root: other.Verifier(), State: path})
	if err == nil {
		_, err = judge(note, keys)
	}
	if err != nil {
		t.Errorf("another root: %v", err)
	}
}

// What cannot be kept is not believed, and a file that cannot be read or written is
// found at the start.
func TestKeySetIsKeptBeforeItCounts(t *testing.T) {
	root, key := feedKey(t), feedKey(t)
	note, keys := keySet(t, root, key, 1)
	dir := t.TempDir()
	gone := config.OcspdFeed{Root: root.Verifier(), State: filepath.Join(dir, "gone", "feed-state")}
	judge, err := judgeOf(gone)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := judge(note, keys); err == nil || !strings.Contains(err.Error(), "keeping that key set 1 was seen") {
		t.Errorf("without the folder: %v", err)
	}
	if err := os.Mkdir(filepath.Dir(gone.State), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := judge(note, keys); err != nil {
		t.Errorf("with it: %v", err)
	}
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("what?\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		feed config.OcspdFeed
		want string
	}{
		{config.OcspdFeed{State: bad}, "of no use without feed.root"},
		{config.OcspdFeed{Root: root.Verifier(), State: bad}, "is not what ocspd wrote"},
		{config.OcspdFeed{Root: root.Verifier(), State: dir}, "is a directory"},
		{config.OcspdFeed{Root: root.Verifier(), State: filepath.Join(dir, "none", "feed-state")}, "no such file"},
	} {
		var told string
		tell := func(key, problem string) { told += key + " " + problem }
		c.feed.Check(tell)
		checkMark(c.feed, tell)
		if !strings.HasPrefix(told, "feed.state ") || !strings.Contains(told, c.want) {
			t.Errorf("%+v: %q, want %q", c.feed, told, c.want)
		}
	}
}
