package pull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
)

// keysTimeout bounds the fetch of one source's key set if no news wait for it.
const keysTimeout = 5 * time.Second

// askForKeys asks the sources for a newer key set from time to time, even if no news need one: a
// thief with a stolen key signs on, and does not send the ban. In a swarm this would open
// connections between all sites: there it asks the current pair of peers, and the master only if a
// check-in has opened a connection.
func (p *Puller) askForKeys(ctx context.Context, chosen []*source) {
	now, asked := p.cfg.Now(), p.fetchKeys.Swap(0)
	if now.Before(p.keysDue) && asked == 0 {
		return
	}
	p.keysDue = now.Add(p.cfg.KeysEvery)
	for i := range p.sources {
		s := &p.sources[i]
		heard := !p.cfg.PreferPeers || asked == fetchFromAll || asked == fetchFromNext && i == 0 || slices.Contains(chosen, s)
		if now.Before(s.due) || !heard {
			continue
		}
		call, cancel := context.WithTimeout(ctx, keysTimeout)
		err := p.renewKeys(call, s.client)
		cancel()
		if err != nil && ctx.Err() == nil && FaultOf(err) != Unreachable && FaultOf(err) != Gap {
			p.left(ctx, s, err)
		}
	}
}

// The values of fetchKeys.
const (
	fetchFromNext = 1 // before the next question
	fetchFromAll  = 2 // the same, at every source
)

// loadKeys reads the newest key set that this site has verified.
func (p *Puller) loadKeys(ctx context.Context) error {
	k, _, err := feed.StoredKeySet(ctx, p.cfg.Store, p.cfg.Origin, p.cfg.Root)
	switch {
	case errors.Is(err, db.ErrNotFound):
		return nil // the first source sends one
	case errors.Is(err, feed.ErrForged), errors.Is(err, feed.ErrForm):
		p.cfg.Log.ErrorContext(ctx, "stored key set is not believed", slog.String("error", err.Error()))
		return nil
	case err != nil:
		return err
	}
	p.keys = k
	p.cfg.Metrics.keySet.Set(float64(k.Number))
	return nil
}

// open verifies a checkpoint, with a newer key set if one is needed.
func (p *Puller) open(ctx context.Context, from *feedhttp.Client, signed []byte) (*feed.Checkpoint, error) {
	c, err := p.keys.OpenCheckpoint(signed)
	if errors.Is(err, feed.ErrForged) || errors.Is(err, feed.ErrNewerKeys) || errors.Is(err, feed.ErrEpoch) {
		if renewErr := p.renewKeys(ctx, from); renewErr != nil {
			return nil, errors.Join(err, renewErr)
		}
		c, err = p.keys.OpenCheckpoint(signed)
	}
	return c, err
}

// renewKeys fetches a key set and keeps it if it is newer. A source that is behind has an older
// one; the number never goes back.
func (p *Puller) renewKeys(ctx context.Context, from *feedhttp.Client) error {
	signed, err := from.Keys(ctx)
	if err != nil {
		return err
	}
	k, err := feed.OpenKeySet(signed, p.cfg.Origin, p.cfg.Root)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	err = k.Follows(p.keys)
	switch {
	case errors.Is(err, feed.ErrReplaced):
		if k.Number == p.keys.Number && k.Text() != p.keys.Text() {
			return p.forkedKeys(ctx, from, signed)
		}
		return nil
	case err != nil:
		return err
	}
	if err := p.cfg.Store.KeepFeedKeys(ctx, k.Number, signed); err != nil {
		return local(err)
	}
	p.cfg.Log.InfoContext(ctx, "key set taken", slog.Int64("number", k.Number), slog.Int64("epoch", k.Epoch), slog.Int("banned", len(k.Banned)), slog.String("source", from.String()))
	p.keys = k
	p.cfg.Metrics.keySet.Set(float64(k.Number))
	p.cleansed = false
	return local(p.rejudge(ctx))
}

// rejudge checks this site's remembered statements by the newest key set. New statements are
// compared with a position, a time or an audit count only while the set admits the key that signed
// it.
func (p *Puller) rejudge(ctx context.Context) error {
	p.stood = nil
	n, err := p.cfg.Store.FeedNote(ctx)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	c, err := p.keys.OpenCheckpoint(n.Note)
	switch {
	case err == nil:
		p.stood = c
	case errors.Is(err, feed.ErrEpoch): // a new history begins: everything is fetched again
	case errors.Is(err, feed.ErrUnknownKey) && !p.keys.Bans(n.Note): // the set does not name its key any more
		p.cfg.Latest.Clear()
	default:
		p.taint(ctx, "what the copy stands on was signed by a key that is banned, or beyond what its key is believed for")
	}
	return nil
}

// forkedKeys keeps two sets of one number: only the root can have signed both.
func (p *Puller) forkedKeys(ctx context.Context, from *feedhttp.Client, theirs []byte) error {
	why := fmt.Sprintf("two key sets of number %d", p.keys.Number)
	_, ours, err := feed.StoredKeySet(ctx, p.cfg.Store, p.cfg.Origin, p.cfg.Root)
	if err == nil {
		err = p.cfg.Store.KeepFork(ctx, from.String(), why, ours, theirs)
	}
	if err != nil {
		return local(err)
	}
	p.reporter.Wake()
	return fmt.Errorf("%w: %s", ErrFork, why)
}

// taint notes that the newest key set does not admit the copy's statement, such as one of a banned
// key. The copy is seeded again; until then it still answers.
func (p *Puller) taint(ctx context.Context, why string) {
	if p.cleansed {
		return
	}
	told := p.tainted
	p.tainted, p.stood = true, nil
	p.diverged = why
	p.cfg.Latest.Clear()
	p.forgetAll()
	if told {
		return
	}
	p.cfg.Log.ErrorContext(ctx, "copy is not believed any more", slog.String("why", p.diverged))
}
