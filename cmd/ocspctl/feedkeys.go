package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db/masterdb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"
)

func (p *program) feedCommand() *cobra.Command {
	return cli.Noun("feed", "the signed feed: its keys, and what it holds", p.feedShowCommand(), p.feedVerifyCommand(), p.feedRecoverCommand(),
		cli.Noun("key", "a key of the feed", p.feedKeyGenerateCommand()),
		cli.Noun("keys", "the key set: who may sign, under the feed's root", p.feedKeysSignCommand(), p.feedKeysPublishCommand(), p.feedKeysRetireCommand()),
		cli.Noun("corrections", "the signed notes that took revocations back", p.correctionsResignCommand()))
}

func (p *program) keyPinCommand() *cobra.Command {
	var file string
	cmd := p.Command("pin", "show the pin of this machine's TLS key for the feed; makes the key if there is none", `
		ocspctl key pin --file /etc/ocspfleet/feed-tls.key
		ocspctl key pin --output json`,
		cobra.NoArgs, func(context.Context, []string) error { return p.keyPin(file) })
	cmd.Flags().StringVar(&file, "file", "", "the key's `FILE` (default: feed.tls_key_file of the configuration)")
	return atOnce(cmd)
}

func (p *program) keyPin(file string) error {
	if file == "" {
		cfg, err := p.config()
		if err != nil {
			return err
		}
		if file = cfg.Feed.TLSKeyFile; file == "" {
			return errors.New("the configuration names no TLS key for the feed: set feed.tls_key_file, or give --file")
		}
	}
	made := false
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		if _, err := feed.GenerateKey(file, "tls"); err != nil {
			return err
		}
		made = true
	}
	identity, err := feedhttp.LoadIdentity(file)
	if err != nil {
		return err
	}
	result := struct {
		cli.Outcome
		File string `json:"file"`
		Pin  string `json:"pin"` // SHA-256 of the SubjectPublicKeyInfo, hex
	}{cli.NewOutcome("key pin", true, made), file, identity.Pin.String()}
	return p.Print(result, func(t *cli.Table) {
		t.Row("file", file)
		t.Row("pin", result.Pin)
		if made {
			t.Line("The key is new. Whoever runs the other side pins it: responder add --feed-pin, feed.sources, feed.peers.")
		}
	})
}

func (p *program) feedKeyGenerateCommand() *cobra.Command {
	var origin, out string
	cmd := p.Command("generate", "make a key of the feed: its root's, one that signs, or a person's for corrections", `
		ocspctl feed key generate --origin ca.example/status --out feed-root.key
		ocspctl feed key generate --origin ca.example/status --out feed.key
		ocspctl feed key generate --origin ca.example/status --out /media/anna/correct.key`,
		cobra.NoArgs, func(context.Context, []string) error {
			if err := feed.CheckOrigin(origin); err != nil {
				return cli.Usagef("--origin: %v", err)
			}
			key, err := feed.GenerateKey(out, origin)
			if err != nil {
				return err
			}
			result := struct {
				cli.Outcome
				File     string `json:"file"`
				Verifier string `json:"verifier"` // NAME+HASH+BASE64 (C2SP signed note)
			}{cli.NewOutcome("feed key generate", true, true), out, key.Verifier()}
			return p.Print(result, func(t *cli.Table) {
				t.Row("file", out)
				t.Row("verifier", result.Verifier)
				result.Outcome.Tell(t)
			})
		})
	cmd.Flags().StringVar(&origin, "origin", "", "the feed's `NAME`: a host name in lower case, perhaps with one /name after it")
	cmd.Flags().StringVar(&out, "out", "", "write the key to `FILE`, which must not exist")
	require(cmd, "origin", "out")
	return atOnce(cmd)
}

// keySetFlags are those of feed keys sign.
type keySetFlags struct {
	root, out     string
	number, epoch int64
	keys, bans    []string
	answers       []string
	correct       []string
}

func (p *program) feedKeysSignCommand() *cobra.Command {
	var f keySetFlags
	cmd := p.Command("sign", "have the feed's root say which keys sign, from when until when", `
		ocspctl feed keys sign --root-key feed-root.key --number 1 --epoch 1790000000 --key ca.example/status+1a2b3c4d+AbC... --correct ca.example/status+5e6f7a8b+DeF... --out keys-1.note
		ocspctl feed keys sign --root-key feed-root.key --number 2 --epoch 1790000000 --key NEW,2026-11-22T00:00:00Z,2027-11-22T00:00:00Z --correct CORRECTKEY --ban OLD --out keys-2.note
		ocspctl feed keys sign --root-key feed-root.key --number 3 --epoch 1790000000 --key KEY --answer ANSWERKEY --out keys-3.note`,
		cobra.NoArgs, func(context.Context, []string) error { return p.feedKeysSign(f) })
	cmd.Long = `A key is of one kind: --key signs the feed, --answer answers for single serials,
--correct the notes that take permanent revocations back (ocspctl approve --key). A
fleet without a feed needs --correct alone. Name every key that sites still meet: a
retired one with the fourth part that ocspctl feed keys retire prints at the master.`
	fs := cmd.Flags()
	fs.StringVar(&f.root, "root-key", "", "the root's key `FILE`; it stays offline")
	fs.Int64Var(&f.number, "number", 0, "the set's `NUMBER`, from 1; a higher one replaces a lower one")
	fs.Int64Var(&f.epoch, "epoch", 0, "the master's `EPOCH` (ocspctl db status)")
	fs.StringArrayVar(&f.keys, "key", nil, "a key that signs the feed, `VERIFIER[,FROM[,UNTIL[,RETIRED]]]`; may stand several times (default: from an hour ago for 400 days)")
	fs.StringArrayVar(&f.answers, "answer", nil, "a key that signs answers for single serials alone, `VERIFIER[,FROM[,UNTIL]]`; may stand several times")
	fs.StringArrayVar(&f.correct, "correct", nil, "a key that signs corrections alone, `VERIFIER[,FROM[,UNTIL[,RETIRED]]]`; may stand several times")
	fs.StringArrayVar(&f.bans, "ban", nil, "a stolen key's `VERIFIER`: nothing that it signed is believed; may stand several times")
	fs.StringVar(&f.out, "out", "", "write the signed set to `FILE`")
	require(cmd, "root-key", "number", "epoch", "out")
	cmd.MarkFlagsOneRequired("key", "correct")
	return atOnce(cmd)
}

func (p *program) feedKeysSign(f keySetFlags) error {
	set := feed.KeySet{Number: f.number, Epoch: f.epoch, Banned: f.bans}
	for _, kind := range []struct {
		flag  string
		texts []string
		into  *[]feed.FeedKey
	}{{"key", f.keys, &set.Keys}, {"answer", f.answers, &set.Answers}, {"correct", f.correct, &set.Correct}} {
		for _, text := range kind.texts {
			key, err := p.feedKey(kind.flag, text)
			if err != nil {
				return err
			}
			*kind.into = append(*kind.into, key)
			set.Origin, _, _ = strings.Cut(key.Verifier, "+")
		}
	}
	root, err := feed.LoadKey(f.root, set.Origin)
	if err != nil {
		return err
	}
	signed, err := set.Sign(root)
	if err != nil {
		return cli.Usagef("%v", err)
	}
	if err := os.WriteFile(f.out, signed, 0o644); err != nil {
		return fmt.Errorf("writing the key set: %w", err)
	}
	view := viewKeySet(&set)
	view.Root = root.Verifier()
	return p.Print(view, view.tell)
}

// feedKey reads VERIFIER[,FROM[,UNTIL[,RETIRED]]], the value of --flag.
func (p *program) feedKey(flag, text string) (feed.FeedKey, error) {
	parts := strings.Split(text, ",")
	key := feed.FeedKey{Verifier: parts[0], From: p.Now().UTC().Truncate(time.Second).Add(-time.Hour)}
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

func (p *program) feedKeysPublishCommand() *cobra.Command {
	var c change
	cmd := p.Command("publish FILE", "bring a signed key set to the master; its ocspsyncd takes it within a second", `
		ocspctl feed keys publish keys-2.note
		ocspctl feed keys publish keys-2.note --why 'yearly change' --apply`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			return p.atMaster(ctx, func(store *masterdb.DB, cfg *config.Config) error {
				return p.feedKeysPublish(ctx, store, cfg, c, args[0])
			})
		})
	c.flags(cmd)
	return cmd
}

func (p *program) feedKeysPublish(ctx context.Context, store *masterdb.DB, cfg *config.Config, c change, file string) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	root, err := cfg.Feed.Verifier()
	if err != nil {
		return err
	}
	signed, err := ctl.ReadSmall(file)
	if err != nil {
		return fmt.Errorf("reading the key set: %w", err)
	}
	set, err := feed.OpenKeySet(signed, root.Name(), root)
	if err != nil {
		return err
	}
	head, err := store.Head(ctx)
	if err != nil {
		return err
	}
	if head.Epoch != set.Epoch {
		return fmt.Errorf("key set %d is for epoch %d, this master's is %d: have the root sign one for it", set.Number, set.Epoch, head.Epoch)
	}
	// One that does not verify is no reason not to follow it.
	before, _, err := feed.StoredKeySet(ctx, store, root.Name(), root)
	known := err == nil && before.Number == set.Number && before.Text() == set.Text()
	if err == nil && !known {
		if err := set.Follows(before); err != nil {
			return fmt.Errorf("%w: have the feed root sign one with the next number", err)
		}
		if err := lostBy(ctx, store, before, set); err != nil {
			return err
		}
	}
	result := struct {
		cli.Outcome
		Set feedView `json:"set"`
	}{cli.NewOutcome("feed keys publish", c.apply, !known), viewKeySet(set)}
	if !known {
		err := store.Try(ctx, c.apply, func(store *masterdb.DB) error {
			result.Changed, err = store.OfferKeySet(ctx, signed, act)
			return err
		})
		if err != nil {
			return err
		}
	}
	return p.Print(result, func(t *cli.Table) {
		result.Set.tell(t)
		result.Outcome.Tell(t)
	})
}
