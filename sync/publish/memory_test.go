package publish_test

import (
	"os"
	"path/filepath"
	"testing"

	"ocspfleet/sync/publish"
)

// A process that ends between the COMMIT of a seal and its file, at its first segment or
// time and again, is no thief: the next one goes on by itself. While the file cannot be
// written, at most one seal is ahead of it.
func TestAMasterThatDiesBeforeItsFileGoesOn(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	state := filepath.Join(t.TempDir(), "state")
	dies := func(n uint64) { // its file is as it was before
		t.Helper()
		kept, err := os.ReadFile(state)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		sealer, err := publish.NewSealer(m.keeping(t, state))
		if err != nil {
			t.Fatal(err)
		}
		m.issue(t, n)
		if err := os.RemoveAll(state); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(state, "in the way of a rename"), 0o700); err != nil {
			t.Fatal(err)
		}
		stop := running(t, sealer)
		awaitTrouble(t, sealer, "keeping what was signed last (feed.state)")
		stop()
		if err := os.RemoveAll(state); err != nil {
			t.Fatal(err)
		}
		if kept != nil {
			if err := os.WriteFile(state, kept, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	goesOn := func(n uint64) {
		t.Helper()
		_, stop := m.starts(t, state)
		m.issue(t, n)
		m.await(t, m.position(t))
		stop()
	}
	dies(1)
	goesOn(2)
	for n := range uint64(3) {
		dies(10 + n)
	}
	goesOn(20)
	m.history(t)
}
