package pull

import (
	"crypto/ed25519"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/sync/feedhttp"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// swarmOf is n sites that have copies and know each other, and for each site whom its
// sources are: the master's number is n.
func swarmOf(t *rapid.T, n int) (sites []*Puller, who map[*source]int) {
	ids := make([]*feedhttp.Identity, n+1)
	for i := range ids {
		seed := make([]byte, ed25519.SeedSize)
		binary.BigEndian.PutUint64(seed, rapid.Uint64().Draw(t, "seed"))
		seed[8] = byte(i)
		var err error
		if ids[i], err = feedhttp.NewIdentity(ed25519.NewKeyFromSeed(seed)); err != nil {
			t.Fatal(err)
		}
	}
	who = map[*source]int{}
	for i := range n {
		var sources []*feedhttp.Client
		var numbers []int
		for _, j := range slices.Concat([]int{n}, others(n, i)) {
			c, err := feedhttp.NewClient(feedhttp.ClientConfig{URL: "https://127.0.0.1:1", Pin: ids[j].Pin, Identity: ids[i]})
			if err != nil {
				t.Fatal(err)
			}
			sources, numbers = append(sources, c), append(numbers, j)
		}
		p, err := New(Config{Origin: "ca.example/status", Sources: sources, PreferPeers: true})
		if err != nil {
			t.Fatal(err)
		}
		p.copy = sitedb.FeedCopy{Seeded: true, Anchored: true, Head: db.Head{AsOf: noon}}
		for k := range p.sources {
			who[&p.sources[k]] = numbers[k]
		}
		sites = append(sites, p)
	}
	return sites, who
}

func others(n, i int) []int {
	var list []int
	for j := range n {
		if j != i {
			list = append(list, j)
		}
	}
	return list
}

// reach says which sites hear of the master's news, by whom each asks, if one of them
// passes nothing on.
func reach(asks [][]int, master, mute int) []bool {
	heard := make([]bool, master)
	for range asks { // as many rounds as the longest way can have hops
		for site, from := range asks {
			for _, source := range from {
				heard[site] = heard[site] || source == master || source != mute && heard[source]
			}
		}
	}
	return heard
}

// Whatever the lots and however many are down: the master is asked by two at most, and
// everybody hears of its news, though any one of the others withholds them.
func TestTheSwarmHearsThoughOneWithholds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 12).Draw(t, "sites")
		sites, who := swarmOf(t, n)
		now := noon.Add(time.Duration(rapid.IntRange(0, 1e6).Draw(t, "seconds")) * time.Second)
		down := map[int]bool{}
		for i := range n {
			down[i] = rapid.IntRange(0, 5).Draw(t, "down") == 0
		}
		asks, feeding, up := make([][]int, n), 0, 0
		for i, p := range sites {
			if down[i] {
				continue
			}
			up++
			p.copy.Head.AsOf = now
			for k := range p.sources {
				if s := &p.sources[k]; who[s] < n && down[who[s]] {
					s.due = now.Add(time.Minute)
				}
			}
			for _, s := range p.choose(now) {
				asks[i] = append(asks[i], who[s])
				if who[s] == n {
					feeding++
				}
			}
			again := p.choose(now.Add(time.Second))
			if now.Unix()/3600 == (now.Unix()+1)/3600 && (len(again) != len(asks[i]) || who[again[0]] != asks[i][0]) {
				t.Errorf("site %d left its pair for nothing", i)
			}
		}
		if feeding != min(feeders, up) {
			t.Errorf("%d of %d sites ask the master, want %d", feeding, up, min(feeders, up))
		}
		for mute := range n {
			for i, heard := range reach(asks, n, mute) {
				if !heard && !down[i] && i != mute {
					t.Fatalf("site %d hears nothing when %d withholds: they ask %v", i, mute, asks)
				}
			}
		}
	})
}

// Another hour, another order: nobody feeds the others for ever.
func TestTheOrderChangesEachHour(t *testing.T) {
	t.Parallel()
	first := map[feedhttp.Pin]bool{}
	for h := range int64(64) {
		pins := []feedhttp.Pin{{1}, {2}, {3}, {4}}
		first[slices.MinFunc(pins, func(a, b feedhttp.Pin) int {
			if rendezvousHash(a, h) < rendezvousHash(b, h) {
				return -1
			}
			return 1
		})] = true
	}
	if len(first) != 4 {
		t.Errorf("in 64 hours %d of 4 sites came first", len(first))
	}
}
