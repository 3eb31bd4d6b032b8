package recovery

import (
	"context"
	"errors"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/tables"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
)

// Source has files of the feed. For a missing file it returns db.ErrNotFound.
type Source interface {
	String() string
	Keys(ctx context.Context) ([][]byte, error)
	Checkpoint(ctx context.Context) ([]byte, error) // the newest
	Snapshot(ctx context.Context, epoch int64) ([]byte, error)
	Chunk(ctx context.Context, epoch, position int64, tag string, i int) ([]byte, error)
	Segment(ctx context.Context, epoch, number int64) (feed.Sealed, error)
}

// FromURL reads from a site, or from any server of the feed.
func FromURL(client *feedhttp.Client) Source { return address{client} }

type address struct{ *feedhttp.Client }

func (a address) Keys(ctx context.Context) ([][]byte, error) {
	signed, err := a.Client.Keys(ctx)
	return [][]byte{signed}, err
}

func (a address) Checkpoint(ctx context.Context) ([]byte, error) {
	signed, _, err := a.Client.Checkpoint(ctx, 0, "", 0)
	return signed, err
}

func (a address) Snapshot(ctx context.Context, epoch int64) ([]byte, error) {
	return a.NewestSnapshot(ctx, epoch)
}

// FromSite reads from a site's database; name is for messages.
func FromSite(store *tables.DB, name string) Source { return kept{store, name} }

type kept struct {
	store *tables.DB
	name  string
}

func (k kept) String() string { return k.name }

// Keys returns the key sets that came by the feed, and those that came by native replication;
// Checkpoint and Segment do the same.
func (k kept) Keys(ctx context.Context) ([][]byte, error) {
	fetched, err := k.store.FeedKeySets(ctx)
	if err != nil {
		return nil, err
	}
	published, err := k.store.Files().FeedKeySets(ctx)
	return append(fetched, published...), err
}

func (k kept) Checkpoint(ctx context.Context) ([]byte, error) {
	newest, err := k.store.FeedNote(ctx)
	if err != nil && !lacks(err) {
		return nil, err
	}
	published, publishedErr := k.store.Files().FeedNote(ctx)
	if publishedErr == nil && published.AsOf.After(newest.AsOf) || lacks(err) {
		return published.Note, publishedErr
	}
	return newest.Note, err
}

func (k kept) Snapshot(ctx context.Context, epoch int64) ([]byte, error) {
	s, err := k.store.NewestSnapshot(ctx, epoch)
	return s.Note, err
}

func (k kept) Chunk(ctx context.Context, epoch, position int64, tag string, i int) ([]byte, error) {
	return k.store.FeedChunk(ctx, epoch, position, tag, i)
}

func (k kept) Segment(ctx context.Context, epoch, number int64) (feed.Sealed, error) {
	g, err := k.store.FeedSegment(ctx, epoch, number)
	if lacks(err) {
		g, err = k.store.Files().FeedSegment(ctx, epoch, number)
	}
	return feed.Sealed{Note: g.Note, Body: g.Body}, err
}

// lacks says whether a source does not have the file.
func lacks(err error) bool { return errors.Is(err, db.ErrNotFound) }

func fromSource(s Source, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("reading the feed from %s: %w", s, err)
}
