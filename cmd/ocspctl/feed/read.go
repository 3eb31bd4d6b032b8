package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strconv"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/keyset"
	"ocspfleet/ops/config"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"

	"golang.org/x/mod/sumdb/note"
)

// reader reads a file of the feed, from a source or from the disk.
type reader struct {
	asking
	Entries bool   `flag:"entries" help:"print the changes or rows, one JSON object per line"`
	From    string `arg:"FILE|URL"`

	root, keys string
	verifies   bool

	client *feedhttp.Client // nil: from the disk
	epoch  int64            // of the source's newest checkpoint
	set    *feed.KeySet     // nil: nothing is verified
}

// show is feed show.
type show struct{ reader }

func (show) Doc() cli.Doc {
	return cli.Doc{
		Name: "show", Short: "show a checkpoint, segment, snapshot or key set; verifies nothing",
		Long: `Reads a file as it is served, or fetches it: /feed/checkpoint, /feed/keys,
/feed/segment/N or /feed/snapshot. --entries prints a segment's changes or a
snapshot's rows as NDJSON. docs/feed.md is the form.`,
		Example: `
		ocspctl feed show checkpoint.note
		ocspctl feed show https://master.example:9443/feed/checkpoint --pin 1f3a...
		ocspctl feed show https://master.example:9443/feed/segment/12 --pin 1f3a... --entries`,
	}
}

func (v *show) Run(ctx context.Context, p *cli.Program) error { return v.run(ctx, p) }

// verify is feed verify.
type verify struct {
	reader
	Root string `flag:"root" help:"the <VERIFIER> key of the feed's root (default: feed.root of the configuration)"`
	Keys string `flag:"keys" help:"the key set in <FILE> (default for a URL: the source's newest)"`
}

func (verify) Doc() cli.Doc {
	return cli.Doc{
		Name: "verify", Short: "verify who signed a file of the feed, and what it holds; exit code 3 when it is not as signed",
		Long: `Judges who signed by the key set, and the key set by the root; that a segment's body
is the signed one; of a snapshot by URL every chunk, and that all rows together have
the signed counts and digests. Exit code 3 when anything is not as signed.`,
		Example: `
		ocspctl feed verify segment-12 --keys keys.note --root ca.example/status+1a2b3c4d+AbC...
		ocspctl feed verify https://master.example:9443/feed/snapshot --pin 1f3a...`,
	}
}

func (v *verify) Run(ctx context.Context, p *cli.Program) error {
	v.root, v.keys, v.verifies = v.Root, v.Keys, true
	return v.run(ctx, p)
}

// run shows one file, verified or not.
func (r *reader) run(ctx context.Context, p *cli.Program) error {
	if err := r.defaults(p); err != nil {
		return err
	}
	path := ""
	if strings.Contains(r.From, "://") {
		var err error
		if path, err = r.connect(); err != nil {
			return err
		}
		defer r.client.Close()
	}
	if r.verifies {
		if err := r.openKeys(ctx); err != nil {
			return keyset.Judged(err)
		}
	}
	raw, err := r.fetch(ctx, path)
	if err != nil {
		return err
	}
	f, err := r.open(ctx, raw, p.Now())
	if err != nil {
		return keyset.Judged(err)
	}
	switch {
	case r.Entries:
		return f.printEntries(p)
	case r.verifies:
		return p.Show(append(f.record, cli.F("verified", "", true)), cli.Line("It is as it was signed."))
	}
	return p.Show(append(f.record, cli.F("verified", "", false)), cli.Line("Nothing was verified: ocspctl feed verify does."))
}

// defaults takes missing flags from the configuration.
func (r *reader) defaults(p *cli.Program) error {
	wantsKey := strings.Contains(r.From, "://") && r.TLSKey == ""
	if !wantsKey && (!r.verifies || r.root != "") {
		return nil
	}
	cfg, err := ctl.Load(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a missing value is reported by name later
	}
	if err != nil {
		return err
	}
	r.root, r.TLSKey = cmp.Or(r.root, cfg.Feed.Root), cmp.Or(r.TLSKey, cfg.Feed.TLSKeyFile)
	return nil
}

func (r *reader) verifier() (note.Verifier, error) {
	return config.OcspctlFeed{Root: r.root}.Verifier()
}

func (r *reader) connect() (path string, err error) {
	u, err := url.Parse(r.From)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || !strings.HasPrefix(u.Path, "/feed/") {
		return "", cli.Usagef("%q: want https://HOST:PORT/feed/checkpoint, /feed/keys, /feed/segment/N or /feed/snapshot", r.From)
	}
	r.client, err = r.dial(u)
	return u.Path, err
}

// openKeys opens the key set that verifies everything.
func (r *reader) openKeys(ctx context.Context) error {
	root, err := r.verifier()
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

// fetch reads the octets of a file or from a source.
func (r *reader) fetch(ctx context.Context, path string) ([]byte, error) {
	if r.client == nil {
		info, err := os.Stat(r.From)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() || info.Size() > feed.MaxSealed {
			return nil, fmt.Errorf("%s: want a regular file of at most %d octets", r.From, feed.MaxSealed)
		}
		return os.ReadFile(r.From)
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
