package pull

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"ocspfleet/sync/feedhttp"
)

// How sites that prefer peers share the master's news. Each hour gives the sites a random order
// that all compute alike from their pins. A site with fewer than two of its peers before it asks
// the master and a peer; every other site asks two random ones of those before it. So the master
// feeds two, however many sites there are; the way from it to any site is a few hops long (the
// logarithm of their number), never a loop; and each site has two ways that share no site, so that
// one peer which withholds, or stands still, delays no other. The sites need no messages between
// them and no list of all: a site that knows only some of the others uses those for its order.

// hour is how long an order holds: no site feeds the others for long.
const hour = time.Hour

// feeders is how many sites of a swarm ask the master: the fewest that leave two ways.
const feeders = 2

// pairPolls is how long a pair is kept: 8 to 16 polls, ten to twenty minutes by default. That is
// long enough to learn how far a source is, short enough to leave one that withholds.
const pairPolls = 8

// activePeers are the peers that a site which prefers peers asks, two at once, for a while.
type activePeers struct {
	of    []*source
	hour  int64
	until time.Time
	late  time.Duration // the age at which the copy counts as cut off from the master
}

// rendezvousHash is the place of a pin in the order of an hour.
func rendezvousHash(pin feedhttp.Pin, hour int64) uint64 {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(pin[:], uint64(hour)))
	return binary.BigEndian.Uint64(sum[:8])
}

// rank is a site's view of its peers in the order of an hour.
type rank struct {
	before, after []*source // those that are due, each in random order
	back          time.Time // when the first left peer before it may be tried again; zero: none was left
}

func (p *Puller) rank(now time.Time, of int64) rank {
	var s rank
	mine := rendezvousHash(p.sources[0].client.Self(), of)
	for i := range p.sources[1:] {
		peer := &p.sources[1+i]
		first := rendezvousHash(peer.client.Pin(), of) < mine
		switch {
		case now.Before(peer.due):
			if first && (s.back.IsZero() || peer.due.Before(s.back)) {
				s.back = peer.due
			}
		case first:
			s.before = append(s.before, peer)
		default:
			s.after = append(s.after, peer)
		}
	}
	for _, list := range [][]*source{s.before, s.after} {
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	return s
}

// choosePeers draws the sources to ask, or keeps those already drawn.
func (p *Puller) choosePeers(due []*source, now time.Time) []*source {
	master, order := &p.sources[0], now.Unix()/int64(hour/time.Second)
	if !p.copy.Seeded || !p.copy.Anchored || p.diverged != "" {
		return p.chooseSeed(p.rank(now, order), due, now)
	}
	p.seedBy = time.Time{}
	intact := order == p.active.hour && now.Before(p.active.until)
	for _, s := range p.active.of {
		intact = intact && !now.Before(s.due)
	}
	// A copy that missed a confirmation may be cut off from the master, and the peers, too: the
	// first to find this asks the master, and the others get the news from it. Only the master
	// itself can say that a denial of access is over.
	late := (p.access.Denied() || p.active.late > 0 && now.Sub(p.copy.Head.AsOf) > p.active.late) && due[0] == master
	if intact && (!late || p.active.of[0] == master) {
		return p.active.of
	}
	s := p.rank(now, order)
	var of []*source
	if due[0] == master && (late || len(s.before) < feeders) {
		of = []*source{master}
	}
	peers := append(s.before, s.after...)
	of = append(of, peers[:min(len(peers), 2-len(of))]...)
	lease, wait := pairPolls*p.cfg.Wait, p.swarmTimeout()
	p.active = activePeers{of, order, now.Add(lease + rand.N(lease)), wait + rand.N(wait)}
	if !late && len(s.before) < feeders && !s.back.IsZero() { // for lack of peers
		p.active.until = s.back
	}
	return of
}

// swarmTimeout is a confirmation and a fifth: 72 s by default.
func (p *Puller) swarmTimeout() time.Duration { return p.cfg.StaleAfter * 2 / 5 }

// chooseSeed draws the source of a copy: any peer. If no reachable peer has one yet, only the first
// in the order asks the master at once: the others wait a moment for its copy.
func (p *Puller) chooseSeed(s rank, due []*source, now time.Time) []*source {
	peers := append(s.before, s.after...)
	if len(peers) > 0 {
		return peers[rand.N(len(peers)):][:1]
	}
	if p.seedBy.IsZero() {
		p.seedBy = now.Add(p.swarmTimeout())
	}
	order := now.Unix() / int64(hour/time.Second)
	mine := rendezvousHash(p.sources[0].client.Self(), order)
	for i := range p.sources[1:] {
		peer := &p.sources[1+i]
		if peer.fault == Gap && rendezvousHash(peer.client.Pin(), order) < mine && now.Before(p.seedBy) {
			return nil
		}
	}
	return due[:1]
}
