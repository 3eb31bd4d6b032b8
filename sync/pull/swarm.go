package pull

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"ocspfleet/sync/feedhttp"
)

// How sites that prefer peers share the master's news. Each hour gives the sites an
// order, by chance, that everybody reckons alike from their pins. Who finds fewer than
// two of its peers before it asks the master and a peer; everybody else asks two that
// stand before it, drawn by lot. So the master feeds two, however many there are; the
// way from it to anybody is a few hops long (the logarithm of their number), never a
// ring; and each has two ways that share no site, so that one peer which withholds, or
// stands still, delays nobody. It needs no word between the sites and no list of all:
// who knows but some of the others has those for its order.

// hour is how long an order holds: nobody feeds the others for long.
const hour = time.Hour

// feeders is how many of a swarm ask the master: the fewest that leave two ways.
const feeders = 2

// A pair is kept for 8 to 16 polls, ten to twenty minutes by default: long enough
// to learn how far a source is, short enough to leave one that withholds.
const pairPolls = 8

// activePeers is whom a site that prefers peers asks, two at once, for a while.
type activePeers struct {
	of    []*source
	hour  int64
	until time.Time
	late  time.Duration // the age at which the copy has lost the way to the master
}

// rendezvousHash is where the holder of a pin stands in the order of an hour.
func rendezvousHash(pin feedhttp.Pin, hour int64) uint64 {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(pin[:], uint64(hour)))
	return binary.BigEndian.Uint64(sum[:8])
}

// rank is a site's view of its peers in the order of an hour.
type rank struct {
	before, after []*source // that are due, each in an order by lot
	back          time.Time // when the first of those that stand before it may be tried again; zero: none was left
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

// choosePeers draws whom to ask, or keeps to those that were drawn.
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
	// A copy that missed a confirmation may have lost the way to the master, and the
	// peers, too: the first to find that asks it, and the others hear of it from that one.
	// A site that is denied access has to hear from the master itself that it is over.
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
	if !late && len(s.before) < feeders && !s.back.IsZero() { // for want of peers
		p.active.until = s.back
	}
	return of
}

// swarmTimeout is a confirmation and a fifth: 72 s by default.
func (p *Puller) swarmTimeout() time.Duration { return p.cfg.StaleAfter * 2 / 5 }

// chooseSeed draws who is asked for a copy: any peer. Where those that are up have
// none yet, only who stands first asks the master at once: the others wait a moment
// for what it gets.
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
