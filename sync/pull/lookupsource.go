package pull

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/lookup"
)

// inOrder returns the sources to ask for a serial: the master, or the first source if none is
// marked as the master, then random peers.
func (a *LookupProxy) inOrder() []*feedhttp.Client {
	masters, peers := a.split()
	if len(masters) == 0 && len(peers) > 0 {
		masters, peers = peers[:1], peers[1:]
	}
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	return append(masters, peers[:min(askPeers, len(peers))]...)
}

func (a *LookupProxy) split() (masters, peers []*feedhttp.Client) {
	for _, s := range a.cfg.Sources {
		if s.Master() {
			masters = append(masters, s)
		} else {
			peers = append(peers, s)
		}
	}
	return masters, peers
}

// Relay asks the master for a peer, and returns the master's signed answer, verified. It asks only
// the master itself, so that a question has one hop and no loop. It returns db.ErrNotFound if no
// source is the master.
func (a *LookupProxy) Relay(ctx context.Context, issuer [32]byte, serial db.Serial) ([]byte, error) {
	masters, _ := a.split()
	if len(masters) == 0 {
		return nil, db.ErrNotFound
	}
	now := a.cfg.Now()
	a.mu.Lock()
	busy := now.Before(a.relaySilent) || !a.relayBucket.Take(now)
	a.mu.Unlock()
	if busy {
		return nil, lookup.ErrBusy
	}
	select {
	case a.relays <- struct{}{}:
		defer func() { <-a.relays }()
	default:
		return nil, lookup.ErrBusy
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, reply, err := a.fetch(ctx, masters, issuer, serial)
	if err != nil {
		if ctx.Err() != nil || FaultOf(err) == Unreachable {
			a.mu.Lock()
			a.relaySilent = a.cfg.Now().Add(silentFor)
			a.mu.Unlock()
		}
		return nil, err
	}
	parsed, err := feed.ParseSignedAnswer(reply)
	return parsed.Note, err
}

// fetched is the result of asking one source.
type fetched struct {
	answer *feed.Answer
	signed []byte
	err    error
}

// fetch asks the sources in turn, the next one if one failed or is slow, and returns the first
// verified answer.
func (a *LookupProxy) fetch(ctx context.Context, sources []*feedhttp.Client, issuer [32]byte, serial db.Serial) (*feed.Answer, []byte, error) {
	set, keys, err := feed.StoredKeySet(ctx, a.cfg.Store, a.cfg.Origin, a.cfg.Root)
	if err != nil {
		return nil, nil, local(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	came := make(chan fetched, len(sources))
	next := time.NewTimer(0)
	defer next.Stop()
	asked, left := 0, len(sources)
	err = ErrGap // if there is no source at all
	for left > 0 {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-next.C:
			if asked < len(sources) {
				source := sources[asked]
				asked++
				go func() { came <- askOne(ctx, source, set, issuer, serial) }()
				next.Reset(askNext)
			}
		case f := <-came:
			if f.err == nil {
				reply, err := feed.SignedAnswer{Keys: keys, Note: f.signed}.Marshal()
				return f.answer, reply, err
			}
			if left--; err == ErrGap || errors.Is(err, db.ErrNotFound) { // the first fault says the most
				err = f.err
			}
			next.Reset(0)
		}
	}
	return nil, nil, err
}

func askOne(ctx context.Context, source *feedhttp.Client, set *feed.KeySet, issuer [32]byte, serial db.Serial) fetched {
	signed, err := source.Ask(ctx, issuer, serial)
	if err != nil {
		return fetched{err: err}
	}
	answer, err := set.OpenAnswer(signed)
	if err == nil && (answer.Issuer != issuer || string(answer.Serial) != string(serial)) {
		err = ErrMixed
	}
	return fetched{answer, signed, err}
}
