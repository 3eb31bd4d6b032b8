package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strconv"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"
)

// feedReader reads files of the feed, from a source or from the disk.
type feedReader struct {
	config.Feed
	pin, keys string
	entries   bool

	client *feedhttp.Client // nil: from the disk
	epoch  int64            // of the source's newest checkpoint
	set    *feed.KeySet     // nil: nothing is verified
}

func (r *feedReader) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.pin, "pin", "", "the `PIN` of the source's TLS key, for a URL")
	f.StringVar(&r.TLSKeyFile, "tls-key", "", "ask with the TLS key in `FILE` (default: feed.tls_key_file of the configuration)")
	f.BoolVar(&r.entries, "entries", false, "print the changes or rows, one JSON object per line")
}

func (p *program) feedShowCommand() *cobra.Command {
	var r feedReader
	cmd := p.Command("show FILE|URL", "show a checkpoint, segment, snapshot or key set; verifies nothing", `
		ocspctl feed show checkpoint.note
		ocspctl feed show https://master.example:9443/feed/checkpoint --pin 1f3a...
		ocspctl feed show https://master.example:9443/feed/segment/12 --pin 1f3a... --entries`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error { return p.feedRead(ctx, r, args[0], false) })
	r.flags(cmd)
	return cmd
}

func (p *program) feedVerifyCommand() *cobra.Command {
	var r feedReader
	cmd := p.Command("verify FILE|URL", "verify who signed a file of the feed, and what it holds; exit code 3 when it is not as signed", `
		ocspctl feed verify segment-12 --keys keys.note --root ca.example/status+1a2b3c4d+AbC...
		ocspctl feed verify https://master.example:9443/feed/snapshot --pin 1f3a...`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error { return p.feedRead(ctx, r, args[0], true) })
	r.flags(cmd)
	cmd.Flags().StringVar(&r.Root, "root", "", "the `VERIFIER` key of the feed's root (default: feed.root of the configuration)")
	cmd.Flags().StringVar(&r.keys, "keys", "", "the key set in `FILE` (default for a URL: the source's newest)")
	return cmd
}

// feedRead shows one file, verified or not.
func (p *program) feedRead(ctx context.Context, r feedReader, from string, verify bool) error {
	if err := p.feedDefaults(&r, from, verify); err != nil {
		return err
	}
	path := ""
	if strings.Contains(from, "://") {
		var err error
		if path, err = r.connect(from); err != nil {
			return err
		}
		defer r.client.Close()
	}
	if verify {
		if err := r.openKeys(ctx); err != nil {
			return judged(err)
		}
	}
	raw, err := r.fetch(ctx, from, path)
	if err != nil {
		return err
	}
	view, rows, err := r.open(ctx, raw, p)
	if err != nil {
		return judged(err)
	}
	view.Verified = verify
	if r.entries {
		return p.printEntries(view, rows)
	}
	return p.Print(view, func(t *cli.Table) {
		view.tell(t)
		if verify {
			t.Line("It is as it was signed.")
		} else {
			t.Line("Nothing was verified: ocspctl feed verify does.")
		}
	})
}

// judged is exit code 3 for what was read and found wrong.
func judged(err error) error {
	for _, wrong := range []error{feed.ErrForged, feed.ErrEpoch, feed.ErrNewerKeys, errNotAsSigned} {
		if errors.Is(err, wrong) {
			return cli.Wrongf("%v", err)
		}
	}
	return err
}

var errNotAsSigned = errors.New("it is not what was signed")

// feedDefaults takes from the configuration what no flag said.
func (p *program) feedDefaults(r *feedReader, from string, verify bool) error {
	wantsKey := strings.Contains(from, "://") && r.TLSKeyFile == ""
	if !wantsKey && (!verify || r.Root != "") {
		return nil
	}
	cfg, err := p.config()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // what is then still missing is asked for by name
	}
	if err != nil {
		return err
	}
	if r.Root == "" {
		r.Root = cfg.Feed.Root
	}
	if r.TLSKeyFile == "" {
		r.TLSKeyFile = cfg.Feed.TLSKeyFile
	}
	return nil
}

func (r *feedReader) connect(from string) (path string, err error) {
	u, err := url.Parse(from)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || !strings.HasPrefix(u.Path, "/feed/") {
		return "", cli.Usagef("%q: want https://HOST:PORT/feed/checkpoint, /feed/keys, /feed/segment/N or /feed/snapshot", from)
	}
	r.client, err = dialFeed(u, r.pin, r.TLSKeyFile)
	return u.Path, err
}

// dialFeed makes the client of a source, which is known by the pin of its TLS key.
func dialFeed(u *url.URL, pinText, keyFile string) (*feedhttp.Client, error) {
	pin, err := feedhttp.ParsePin(pinText)
	if err != nil {
		return nil, cli.Usagef("--pin: %v", err)
	}
	if keyFile == "" {
		return nil, errors.New("there is no TLS key to ask with: set feed.tls_key_file, or give --tls-key (ocspctl key pin makes one)")
	}
	identity, err := feedhttp.LoadIdentity(keyFile)
	if err != nil {
		return nil, err
	}
	return feedhttp.NewClient(feedhttp.ClientConfig{URL: "https://" + u.Host, Pin: pin, Identity: identity})
}

// openKeys takes the key set that everything is judged by.
func (r *feedReader) openKeys(ctx context.Context) error {
	root, err := r.Verifier()
	if err != nil {
		return err
	}
	var signed []byte
	switch {
	case r.keys != "":
		signed, err = ctl.ReadSmall(r.keys)
	case r.client != nil:
		signed, err = r.client.Keys(ctx)
	default:
		return cli.Usagef("--keys is missing: the key set to judge a file by")
	}
	if err != nil {
		return fmt.Errorf("reading the key set: %w", err)
	}
	r.set, err = feed.OpenKeySet(signed, root.Name(), root)
	return err
}

// fetch reads the octets of a file or of what a source serves.
func (r *feedReader) fetch(ctx context.Context, from, path string) ([]byte, error) {
	if r.client == nil {
		info, err := os.Stat(from)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() || info.Size() > feed.MaxSealed {
			return nil, fmt.Errorf("%s: want a regular file of at most %d octets", from, feed.MaxSealed)
		}
		return os.ReadFile(from)
	}
	signed, _, err := r.client.Checkpoint(ctx, 0, "", 0)
	if err != nil || path == "/feed/checkpoint" {
		return signed, err
	}
	c, err := feed.ParseCheckpoint(textOf(signed))
	if err != nil {
		return nil, err
	}
	r.epoch = c.Epoch
	number, isSegment := strings.CutPrefix(path, "/feed/segment/")
	n, parseErr := strconv.ParseInt(number, 10, 64)
	switch {
	case path == "/feed/keys":
		return r.client.Keys(ctx)
	case path == "/feed/snapshot":
		return r.client.NewestSnapshot(ctx, r.epoch)
	case isSegment && parseErr == nil:
		sealed, err := r.client.Segment(ctx, r.epoch, n)
		if err != nil {
			return nil, err
		}
		return sealed.Marshal()
	}
	return nil, cli.Usagef("%s: want /feed/checkpoint, /feed/keys, /feed/segment/N or /feed/snapshot", path)
}

// textOf is a note's text: all before the empty line that the signatures follow.
func textOf(signed []byte) string {
	return string(signed[:bytes.LastIndex(signed, []byte("\n\n"))+1])
}

// rowsOf hands out the changes or rows of what was read, in order.
type rowsOf func(each func(db.Change) error) error

// open finds out what the octets are, and judges them if there is a key set.
func (r *feedReader) open(ctx context.Context, raw []byte, p *program) (feedView, rowsOf, error) {
	text := textOf(raw)
	first, _, _ := strings.Cut(text, "\n")
	switch {
	case len(raw) > 0 && raw[0] == 0x30:
		return r.openSegment(raw, p)
	case strings.HasSuffix(first, "/keys"):
		return r.openKeySet(raw)
	case strings.HasSuffix(first, "/snapshot"):
		return r.openSnapshot(ctx, raw, p)
	}
	c, err := feed.ParseCheckpoint(text)
	if err == nil && r.set != nil {
		c, err = r.set.OpenCheckpoint(raw)
	}
	if err != nil {
		return feedView{}, nil, err
	}
	return viewCheckpoint("checkpoint", c, p.Now()), nil, nil
}

func (r *feedReader) openKeySet(raw []byte) (feedView, rowsOf, error) {
	set, err := feed.ParseKeySet(textOf(raw))
	if err == nil && r.set != nil {
		var root note.Verifier
		if root, err = r.Verifier(); err == nil {
			set, err = feed.OpenKeySet(raw, root.Name(), root)
		}
	}
	if err != nil {
		return feedView{}, nil, err
	}
	return viewKeySet(set), nil, nil
}

func (r *feedReader) openSegment(raw []byte, p *program) (feedView, rowsOf, error) {
	sealed, err := feed.ParseSealed(raw)
	if err != nil {
		return feedView{}, nil, err
	}
	var c *feed.Checkpoint
	var s *feed.Segment
	if r.set != nil {
		c, s, err = r.set.Open(sealed)
	} else if c, err = feed.ParseCheckpoint(textOf(sealed.Note)); err == nil {
		s, err = feed.ParseSegment(sealed.Body)
	}
	if err != nil {
		return feedView{}, nil, err
	}
	return viewSegment(c, s, len(sealed.Body), p.Now()), func(each func(db.Change) error) error {
		for _, change := range s.Changes {
			if err := each(change); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func (r *feedReader) openSnapshot(ctx context.Context, raw []byte, p *program) (feedView, rowsOf, error) {
	s, err := feed.ParseSnapshot(textOf(raw))
	if err == nil && r.set != nil {
		s, err = r.set.OpenSnapshot(raw)
	}
	if err != nil {
		return feedView{}, nil, err
	}
	rows := func(each func(db.Change) error) error { return r.chunks(ctx, s, feedhttp.Tag(raw), each) }
	if r.client == nil {
		rows = nil
	} else if r.set != nil && !r.entries {
		// The chunks are as signed if their hashes are; that they hold the rows that the
		// manifest counts is the master's word, checked here.
		err = rows(func(db.Change) error { return nil })
	}
	return viewSnapshot(s, p.Now()), rows, err
}

// chunks fetches a snapshot's chunks, and counts and digests their rows.
func (r *feedReader) chunks(ctx context.Context, s *feed.Snapshot, tag string, each func(db.Change) error) error {
	tallies := map[string]*db.Tally{}
	for _, t := range s.Tallies {
		tallies[t.Table] = &db.Tally{}
	}
	for i := range s.Chunks {
		body, err := r.client.Chunk(ctx, s.Epoch, s.Position, tag, i)
		if err != nil {
			return err
		}
		rows, err := s.OpenChunk(i, body)
		if err != nil {
			return fmt.Errorf("%w: %w", errNotAsSigned, err)
		}
		for _, row := range rows {
			t, err := db.FeedTableOf(row.Table)
			if err != nil {
				return err
			}
			if tallies[t.Name] == nil {
				return fmt.Errorf("%w: a row of %s, which the manifest does not count", errNotAsSigned, t.Name)
			}
			tallies[t.Name].Add(row.Content)
			if err := each(row); err != nil {
				return err
			}
		}
	}
	for _, t := range s.Tallies {
		if *tallies[t.Table] != t.Tally {
			return fmt.Errorf("%w: %s has %d rows, the manifest says %d, or the digests differ", errNotAsSigned, t.Table, tallies[t.Table].Count, t.Count)
		}
	}
	return nil
}

// printEntries prints the changes as NDJSON, whatever --output says.
func (p *program) printEntries(v feedView, rows rowsOf) error {
	if rows == nil {
		return cli.Usagef("--entries: a %s from here has none (a segment has; a snapshot by its URL)", v.Kind)
	}
	enc := json.NewEncoder(p.Stdout)
	enc.SetEscapeHTML(false)
	return judged(rows(func(c db.Change) error {
		entry, err := viewFeedEntry(c)
		if err != nil {
			return err
		}
		if err := enc.Encode(entry); err != nil {
			return fmt.Errorf("writing the entries: %w", err)
		}
		return nil
	}))
}
