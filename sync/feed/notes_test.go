package feed_test

import (
	"bytes"
	"testing"

	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feed"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
)

// signable is what T is by its pointer: a correction, an answer, a key set.
type signable[T any] interface {
	*T
	Sign(signer note.Signer) ([]byte, error)
}

func signed[T any, P signable[T]](tb testing.TB, s T, key string) []byte {
	tb.Helper()
	note, err := P(&s).Sign(feedtest.KeyOf(tb, key))
	if err != nil {
		tb.Fatal(err)
	}
	return note
}

// golden holds a note, and the key set that names its key, to the octets in testdata.
func golden[T any, P signable[T]](t *testing.T, setFile, file, key string, keys *feed.KeySet, want T, open func(*feed.KeySet, []byte) (*T, error)) {
	t.Helper()
	if *update {
		write(t, setFile, signed(t, *keys, "root"))
		write(t, file, signed[T, P](t, want, key))
	}
	keys, err := feed.OpenKeySet(read(t, setFile), origin, feedtest.RootOf(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := open(keys, read(t, file))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !bytes.Equal(signed[T, P](t, *got, key), read(t, file)) {
		t.Error("it is not signed to the same octets again")
	}
}

// everyOctetCounts sees that no octet of a note can be changed.
func everyOctetCounts[T any](t *testing.T, note []byte, open func([]byte) (*T, error)) {
	t.Helper()
	for i := range note {
		bad := bytes.Clone(note)
		bad[i] ^= 1
		if _, err := open(bad); err == nil {
			t.Fatalf("octet %d of\n%s may be changed", i, note)
		}
	}
}
