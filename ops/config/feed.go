package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"reflect"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// OcspsyncdFeed is the signed feed (docs/feed.md): the master seals and serves it; a site
// fetches it, and relays it if listen is set. Left out: no feed.
type OcspsyncdFeed struct {
	// Root is the verifier key of the feed's offline root, as ocspctl feed key generate printed
	// it: ca.example/status+1a2b3c4d+AbC... Its name is the feed's origin. All trust in the
	// feed and in corrections of permanent revocations comes from this key. In a fleet without
	// a feed it is set alone: then a site reads the key sets in the master's database, and the
	// master accepts those that staff publishes.
	Root string `yaml:"root,omitempty"`
	// KeyFile holds the key that signs checkpoints and snapshots. Role master only.
	KeyFile string `yaml:"key_file,omitempty"`
	// State is a file with the last signed checkpoint: /var/lib/ocspsyncd/feed-last, in a
	// folder that only ocspsyncd may write. If the database does not continue that checkpoint,
	// nothing more is signed: write access to the database is not enough to make this master
	// sign two histories. Required at the master; on a new machine the file does not exist yet.
	State string `yaml:"state,omitempty"`
	// NextKeyFile holds the key that takes over when the key set names it and its time begins.
	// Role master only; empty: no rotation is prepared.
	NextKeyFile string `yaml:"next_key_file,omitempty"`
	// AnswerKeyFile holds the key that signs answers to sites that ask for a single serial
	// (their ask_socket). The key set must name it for that (ocspctl feed keys sign --answer).
	// Role master only; empty: such questions are not answered.
	AnswerKeyFile string `yaml:"answer_key_file,omitempty"`
	// TLSKeyFile holds this machine's own TLS key (ocspctl key pin makes it): master, peers and
	// this site identify each other by the pins of such keys.
	TLSKeyFile string `yaml:"tls_key_file,omitempty"`
	// Listen is the address where the feed is served: ":9443". Required at the master; a site
	// with it relays what it verified. Only pinned keys may connect.
	Listen string `yaml:"listen,omitempty"`
	// MaxConnections bounds that listener. Default 2048: at 40 kB each that is 80 MB. A site
	// has one or two. A further one closes the connection that has waited longest, before its
	// TLS handshake or between requests; one client may have 64 that wait so.
	MaxConnections int `yaml:"max_connections,omitempty"`
	// Public allows shared caches in front to keep segments and snapshots.
	Public bool `yaml:"public,omitempty"`
	// Confirm is how often an idle master signs that nothing is new. A copy by the feed is at
	// least that old. Default 60s, 15 MB a month per site; 5s are 180 MB a month. Role master
	// only.
	Confirm time.Duration `yaml:"confirm,omitempty"`
	// Sources are where to fetch, in the order of preference: the master, then peers. With sync
	// logical they answer questions for single serials (ask_socket), and the master receives
	// the evidence of a fork; without ask_socket it needs none. Role site only.
	Sources []Source `yaml:"sources,omitempty"`
	// PreferPeers fetches from two peers, drawn by lot each hour, instead of the first source.
	// Only two sites of all then fetch from the master, so its traffic does not grow with the
	// number of sites. News takes a few hops. Default false. Sync feed only.
	PreferPeers bool `yaml:"prefer_peers,omitempty"`
	// Peers are the sites that may fetch from here. Role site only.
	Peers []Peer `yaml:"peers,omitempty"`
	// AskSocket is a Unix socket on which this site's ocspd asks for serials that the copy does
	// not have yet, the same path as feed.ask_socket in ocspd.yaml: /run/ocspfleet/ask.sock.
	// ocspsyncd asks the master, or through two peers if the master does not answer, at most 10
	// times a second. Only this user and group may use it (0660). Role site only; empty: off.
	AskSocket string `yaml:"ask_socket,omitempty"`
	// StaleAfter is how old a source's newest checkpoint may be before the next source is used.
	// Default 3m: three times the master's confirm. Sync feed only.
	StaleAfter time.Duration `yaml:"stale_after,omitempty"`
}

// maxSocketPath is the longest path in a sockaddr_un, without the final zero.
const maxSocketPath = 107

// Source is one source of the feed.
type Source struct {
	// URL of the source, without a path: https://master.example:9443.
	URL string `yaml:"url,omitempty"`
	// Pin is the SHA-256 of its TLS key, 64 hex digits (ocspctl key pin).
	Pin string `yaml:"pin,omitempty"`
	// Master says that this is the master itself. When the master knows this site and refuses
	// it, since it was suspended or revoked, ocspd stops answering good and unknown until
	// access is given again. No peer can do that. Default false.
	Master bool `yaml:"master,omitempty"`
}

// Peer is a site that may fetch from this one.
type Peer struct {
	// Name is for the log.
	Name string `yaml:"name,omitempty"`
	// Pin is the SHA-256 of its TLS key, 64 hex digits (ocspctl key pin).
	Pin string `yaml:"pin,omitempty"`
}

// Given says whether the configuration has a feed.
func (f *OcspsyncdFeed) Given() bool { return !reflect.ValueOf(*f).IsZero() }

// RootAlone says whether only the root is set: a site verifies corrections with it, and there
// is no feed.
func (f *OcspsyncdFeed) RootAlone() bool {
	alone := OcspsyncdFeed{Root: f.Root}
	return f.Root != "" && reflect.DeepEqual(*f, alone)
}

// Check finds what strict reading cannot; native says that the rows, and so the signed files,
// come by native replication.
func (f *OcspsyncdFeed) Check(role string, native bool, report func(key, problem string)) {
	if _, err := f.Verifier(); err != nil {
		report("feed.root", err.Error())
	}
	if role == RoleMaster && f.RootAlone() {
		return
	}
	if f.TLSKeyFile == "" {
		report("feed.tls_key_file", "is missing: ocspctl key pin makes it")
	}
	if f.Confirm < 0 || f.Confirm > 15*time.Minute {
		report("feed.confirm", "wants at most 15m, 0s for the default")
	}
	switch {
	case f.MaxConnections < 0:
		report("feed.max_connections", "is "+strconv.Itoa(f.MaxConnections)+": want at least 1, or 0 for the default")
	case f.MaxConnections > 0 && f.Listen == "":
		report("feed.max_connections", "is of no use without feed.listen")
	}
	if f.StaleAfter < 0 {
		report("feed.stale_after", "cannot be negative")
	}
	only := func(for_, key string, is bool) {
		if is && role != for_ {
			report("feed."+key, "is for role "+for_)
		}
	}
	only(RoleMaster, "key_file", f.KeyFile != "")
	only(RoleMaster, "state", f.State != "")
	only(RoleMaster, "next_key_file", f.NextKeyFile != "")
	only(RoleMaster, "answer_key_file", f.AnswerKeyFile != "")
	only(RoleSite, "ask_socket", f.AskSocket != "")
	if f.AskSocket != "" && (!filepath.IsAbs(f.AskSocket) || len(f.AskSocket) > maxSocketPath) {
		report("feed.ask_socket", fmt.Sprintf("wants an absolute path of at most %d octets", maxSocketPath))
	}
	only(RoleMaster, "confirm", f.Confirm != 0)
	only(RoleSite, "sources", len(f.Sources) > 0)
	only(RoleSite, "prefer_peers", f.PreferPeers)
	only(RoleSite, "peers", len(f.Peers) > 0)
	only(RoleSite, "stale_after", f.StaleAfter != 0)
	switch {
	case role == RoleMaster && f.KeyFile == "":
		report("feed.key_file", "is missing: ocspctl feed key generate makes it")
	case role == RoleMaster && f.State == "":
		report("feed.state", "is missing: /var/lib/ocspsyncd/feed-last, in a folder that only ocspsyncd may write")
	case role == RoleSite && !native && len(f.Sources) == 0:
		report("feed.sources", "is empty: name the master, or a peer, by url and pin")
	}
	for key, is := range map[string]bool{"prefer_peers": native && f.PreferPeers, "stale_after": native && f.StaleAfter != 0} {
		if is {
			report("feed."+key, "is for sync feed: a native site's files come from the master's database")
		}
	}
	if native && f.AskSocket != "" && len(f.Sources) == 0 {
		report("feed.sources", "is empty: ask_socket needs the master, or a peer, by url and pin")
	}
	switch {
	case role == RoleMaster && f.Listen == "":
		report("feed.listen", `is missing: for example ":9443"`)
	case len(f.Peers) > 0 && f.Listen == "":
		report("feed.listen", "is missing: without it no peer can ask")
	}
	f.checkOthers(report)
}

func (f *OcspsyncdFeed) checkOthers(report func(key, problem string)) {
	for i, s := range f.Sources {
		key := fmt.Sprintf("feed.sources[%d]", i)
		if u, err := url.Parse(s.URL); err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
			report(key+".url", fmt.Sprintf("is %q: want https://HOST:PORT", s.URL))
		}
	}
	seen := map[string]string{}
	for i, p := range f.Peers {
		key := fmt.Sprintf("feed.peers[%d]", i)
		if p.Name == "" {
			report(key+".name", "is missing")
		}
		if other, twice := seen[p.Pin]; twice && p.Pin != "" {
			report(key+".pin", "is "+other+"'s, too")
		}
		seen[p.Pin] = p.Name
	}
}

// Verifier returns the pinned root; its name is the origin.
func (f *OcspsyncdFeed) Verifier() (note.Verifier, error) {
	if f.Root == "" {
		return nil, fmt.Errorf("is missing: the verifier key of the feed's root, as ocspctl feed key generate printed it")
	}
	if _, err := note.NewVerifier(f.Root); err != nil {
		return nil, fmt.Errorf("is %q: want NAME+HASH+BASE64, as ocspctl feed key generate printed it", f.Root)
	}
	return ParseRoot(f.Root)
}
