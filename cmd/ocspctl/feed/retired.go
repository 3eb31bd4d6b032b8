package feed

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/keyset"
	"ocspfleet/sync/feed"
)

// retire is feed keys retire.
type retire struct {
	Verifier string `arg:"VERIFIER"`
}

func (retire) Doc() cli.Doc {
	return cli.Doc{
		Name: "retire", Short: "show how the next key set names a key that signs no more",
		Long: `Shows the line by which the next key set names a feed key or a correction key that
signs no more: its last segment, or the count and hash of its corrections. Give that
line to feed keys sign. What the key signs afterwards, sites refuse. A stolen key is not
retired but banned (docs/feed-keys.md).`,
		Example: "ocspctl feed keys retire ca.example/status+1a2b3c4d+AbC...",
	}
}

func (v *retire) Run(ctx context.Context, m *ctl.Master) error {
	set, err := keyset.InForce(ctx, m.Store, m.Config)
	if err != nil {
		return err
	}
	for _, kind := range []struct {
		flag   string
		keys   []feed.FeedKey
		signed func(context.Context, *ctl.Master, *feed.KeySet) (*feed.Retired, error)
	}{{"key", set.Keys, v.sealed}, {"correct", set.Correct, v.corrected}} {
		for _, key := range kind.keys {
			if key.Verifier != v.Verifier {
				continue
			}
			r, err := kind.signed(ctx, m, set)
			if err != nil {
				return err
			}
			value := fmt.Sprintf("%s,%s,%s,%s", key.Verifier, key.From.Format(time.RFC3339), key.Until.Format(time.RFC3339), showRetired(r))
			return m.Show(cli.Record{cli.F("flag", "", kind.flag), cli.F("value", "", value)}, cli.Line("--%s %s", kind.flag, value))
		}
	}
	return cli.Usagef("%q is none of the keys that key set %d names for the feed or for corrections (ocspctl feed show)", v.Verifier, set.Number)
}

// sealed returns the last segment that the key sealed.
func (v *retire) sealed(ctx context.Context, m *ctl.Master, _ *feed.KeySet) (*feed.Retired, error) {
	var last *feed.Retired
	err := m.Store.SegmentNotes(ctx, func(note []byte) bool { last = feed.SealedBy(v.Verifier, note); return last == nil })
	if err == nil && last == nil {
		err = errors.New("no segment that is kept here was sealed by this key: leave it out of the next key set")
	}
	return last, err
}

// corrected returns all corrections that the key signed.
func (v *retire) corrected(ctx context.Context, m *ctl.Master, set *feed.KeySet) (*feed.Retired, error) {
	notes, err := keyset.Corrections(ctx, m.Store)
	made := set.MadeBy(v.Verifier, notes)
	return &made, err
}

// showRetired writes what a retired key signed in the form of feed keys sign: EPOCH:NUMBER:HASH of
// a feed key's last segment, COUNT:HASH of corrections.
func showRetired(r *feed.Retired) string {
	switch {
	case r == nil:
		return ""
	case r.Epoch != 0:
		return fmt.Sprintf("%d:%d:%x", r.Epoch, r.Number, r.Hash[:])
	}
	return fmt.Sprintf("%d:%x", r.Number, r.Hash[:])
}

// parseRetired reads what showRetired wrote.
func parseRetired(flag, text string) (*feed.Retired, error) {
	parts := strings.Split(text, ":")
	r := &feed.Retired{}
	var err error
	if flag == "key" && len(parts) == 3 {
		r.Epoch, err = strconv.ParseInt(parts[0], 10, 64)
		parts = parts[1:]
	} else if flag != "correct" {
		return nil, strconv.ErrSyntax
	}
	if err == nil && len(parts) != 2 {
		return nil, strconv.ErrSyntax
	}
	if err == nil {
		r.Number, err = strconv.ParseInt(parts[0], 10, 64)
	}
	if err != nil {
		return nil, err
	}
	raw, err := hex.DecodeString(parts[1])
	if err == nil && len(raw) != len(r.Hash) {
		err = strconv.ErrSyntax
	}
	copy(r.Hash[:], raw)
	return r, err
}
