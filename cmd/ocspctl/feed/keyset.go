package feed

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/keyset"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/sync/feed"

	"golang.org/x/mod/sumdb/note"
)

// sign is feed keys sign.
type sign struct {
	cli.AtOnce
	Root    string   `flag:"root-key,required" help:"the root's key <FILE>; it stays offline"`
	Number  int64    `flag:"number,required" help:"the set's <NUMBER>, from 1; a higher one replaces a lower one"`
	Epoch   int64    `flag:"epoch,required" help:"the master's <EPOCH> (ocspctl db status)"`
	Keys    []string `flag:"key" help:"a key that signs the feed, <VERIFIER[,FROM[,UNTIL[,RETIRED]]]>; may stand several times (default: from an hour ago for 400 days)"`
	Answers []string `flag:"answer" help:"a key that signs answers for single serials alone, <VERIFIER[,FROM[,UNTIL]]>; may stand several times"`
	Correct []string `flag:"correct" help:"a key that signs corrections alone, <VERIFIER[,FROM[,UNTIL[,RETIRED]]]>; may stand several times"`
	Bans    []string `flag:"ban" help:"a stolen key's <VERIFIER>: nothing that it signed is believed; may stand several times"`
	Out     string   `flag:"out,required" help:"write the signed set to <FILE>"`
}

func (sign) Doc() cli.Doc {
	return cli.Doc{
		Name: "sign", Short: "have the feed's root say which keys sign, from when until when",
		Long: `Done with the offline root. A set has a number that only grows, the master's epoch,
the keys that may sign with their times, and the banned ones. For a change of keys
name the old and the new one with times that overlap; for a stolen one ban it.

A key is of one kind: --key signs the feed, --answer answers for single serials,
--correct the notes that take permanent revocations back (ocspctl approve --key). A
fleet without a feed needs --correct alone. Name every key that sites still meet: a
retired one with the fourth part that ocspctl feed keys retire prints at the master.`,
		Example: `
		ocspctl feed keys sign --root-key feed-root.key --number 1 --epoch 1790000000 --key ca.example/status+1a2b3c4d+AbC... --correct ca.example/status+5e6f7a8b+DeF... --out keys-1.note
		ocspctl feed keys sign --root-key feed-root.key --number 2 --epoch 1790000000 --key NEW,2026-11-22T00:00:00Z,2027-11-22T00:00:00Z --correct CORRECTKEY --ban OLD --out keys-2.note
		ocspctl feed keys sign --root-key feed-root.key --number 3 --epoch 1790000000 --key KEY --answer ANSWERKEY --out keys-3.note`,
		OneOf: "key correct",
	}
}

func (v *sign) Run(_ context.Context, p *cli.Program) error {
	set := feed.KeySet{Number: v.Number, Epoch: v.Epoch, Banned: v.Bans}
	for _, kind := range []struct {
		flag  string
		texts []string
		into  *[]feed.FeedKey
	}{{"key", v.Keys, &set.Keys}, {"answer", v.Answers, &set.Answers}, {"correct", v.Correct, &set.Correct}} {
		for _, text := range kind.texts {
			key, err := parseKey(kind.flag, text, p.Now())
			if err != nil {
				return err
			}
			*kind.into = append(*kind.into, key)
			set.Origin, _, _ = strings.Cut(key.Verifier, "+")
		}
	}
	root, err := feed.LoadKey(v.Root, set.Origin)
	if err != nil {
		return err
	}
	signed, err := set.Sign(root)
	if err != nil {
		return cli.Usagef("%v", err)
	}
	if err := os.WriteFile(v.Out, signed, 0o644); err != nil {
		return fmt.Errorf("writing the key set: %w", err)
	}
	return p.Show(append(keySet(&set, cli.F("root", "root", root.Verifier())), cli.F("verified", "", false)))
}

// parseKey reads VERIFIER[,FROM[,UNTIL[,RETIRED]]], the value of --flag.
func parseKey(flag, text string, now time.Time) (feed.FeedKey, error) {
	parts := strings.Split(text, ",")
	key := feed.FeedKey{Verifier: parts[0], From: now.UTC().Truncate(time.Second).Add(-time.Hour)}
	if _, err := note.NewVerifier(key.Verifier); err != nil || len(parts) > 4 || len(parts) > 3 && flag == "answer" {
		return key, cli.Usagef("--%s %q: want VERIFIER[,FROM[,UNTIL]], VERIFIER as feed key generate printed it", flag, text)
	}
	var err error
	if len(parts) > 1 {
		if key.From, err = time.Parse(time.RFC3339, parts[1]); err != nil {
			return key, cli.Usagef("--%s: from %q: want a time such as 2026-11-22T15:04:05Z", flag, parts[1])
		}
	}
	key.Until = key.From.AddDate(0, 0, 400)
	if len(parts) > 2 {
		if key.Until, err = time.Parse(time.RFC3339, parts[2]); err != nil {
			return key, cli.Usagef("--%s: until %q: want a time such as 2026-11-22T15:04:05Z", flag, parts[2])
		}
	}
	if len(parts) > 3 {
		if key.Retired, err = parseRetired(flag, parts[3]); err != nil {
			return key, cli.Usagef("--%s: retired %q: want what ocspctl feed keys retire printed at the master", flag, parts[3])
		}
	}
	return key, nil
}

// publish is feed keys publish.
type publish struct {
	cli.Change
	File string `arg:"FILE"`
}

func (publish) Doc() cli.Doc {
	return cli.Doc{
		Name: "publish", Short: "bring a signed key set to the master; its ocspsyncd takes it within a second",
		Long: `Checks that the pinned root (feed.root) signed the set and that it is for this
master's epoch, and that it follows the one in force, and offers it to the master's
ocspsyncd, with its audit entry. That one verifies it once more and brings it into
force within a second (its log and the audit say if not); sites fetch it by
themselves.`,
		Example: `
		ocspctl feed keys publish keys-2.note
		ocspctl feed keys publish keys-2.note --why 'yearly change' --apply`,
	}
}

func (v *publish) Run(ctx context.Context, m *ctl.Master) error {
	root, err := m.Config.Feed.Verifier()
	if err != nil {
		return err
	}
	signed, err := ctl.ReadSmall(v.File)
	if err != nil {
		return fmt.Errorf("reading the key set: %w", err)
	}
	set, err := feed.OpenKeySet(signed, root.Name(), root)
	if err != nil {
		return err
	}
	head, err := m.Store.Head(ctx)
	if err != nil {
		return err
	}
	if head.Epoch != set.Epoch {
		return fmt.Errorf("key set %d is for epoch %d, this master's is %d: have the root sign one for it", set.Number, set.Epoch, head.Epoch)
	}
	// The new set may follow one that does not verify.
	before, _, err := feed.StoredKeySet(ctx, m.Store, root.Name(), root)
	known := err == nil && before.Number == set.Number && before.Text() == set.Text()
	if err == nil && !known {
		if err := set.Follows(before); err != nil {
			return fmt.Errorf("%w: have the feed root sign one with the next number", err)
		}
		if err := lostBy(ctx, m.Store, before, set); err != nil {
			return err
		}
	}
	outcome := v.Outcome(false)
	if !known {
		if outcome, err = m.Try(ctx, v.Change, func(store *masterdb.DB, act db.Act) (bool, error) {
			return store.OfferKeySet(ctx, signed, act)
		}); err != nil {
			return err
		}
	}
	r := keySet(set)
	return m.ShowChange(outcome, cli.Quiet(cli.Object("set", append(r, cli.F("verified", "", false)))), cli.Said(r.Tell))
}

// lostBy refuses a key set under which corrections would no longer verify.
func lostBy(ctx context.Context, store *masterdb.DB, inForce, next *feed.KeySet) error {
	notes, err := keyset.Corrections(ctx, store)
	if err != nil {
		return err
	}
	lost := inForce.Lost(notes, next)
	if len(lost) == 0 {
		return nil
	}
	return fmt.Errorf("under key set %d, %d corrections would not verify any more, such as that of serial %s: sites would not believe them; sign them anew first (ocspctl feed corrections resign), and publish this once every site has them",
		next.Number, len(lost), lost[0].Serial)
}
