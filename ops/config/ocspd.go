package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"ocspfleet/hsm/tokenconf"
	"ocspfleet/sync/feed"
)

// Ocspd is /etc/ocspfleet/ocspd.yaml. Durations are written "30s" or "72h".
type Ocspd struct {
	// Listen is the public address for OCSP clients, plain HTTP
	// (RFC 9919 section 5): ":80", or a loopback port behind nginx or HAProxy.
	Listen string `yaml:"listen,omitempty"`
	// Admin is the address of /healthz, /readyz and /metrics. Loopback only.
	Admin string `yaml:"admin,omitempty"`
	// Database is this site's own PostgreSQL; the login is a member of ocsp_responder and can
	// only read. ocspd connects to nothing else, except to feed.ask_socket if it is set.
	Database Database `yaml:"database,omitempty"`
	// Token holds this site's responder key.
	Token SigningToken `yaml:"token,omitempty"`
	// MoreTokens are further tokens, each with its own keys: a partition per issuer, or an old
	// and a new HSM side by side while the site's key moves. The certificates in the database
	// say which key signs for which issuer. SoftHSM tokens must share one softhsm2_conf.
	MoreTokens []SigningToken `yaml:"more_tokens,omitempty"`
	// ExitWhenStuck is how long all calls of the PKCS#11 library, of all tokens, may hang
	// before ocspd ends with exit 1, so that systemd starts it again. Until then it serves the
	// answers that it signed before; a new process has none. Default 1h. 0s: never; then
	// monitor /readyz. At least the longest sign_timeout.
	ExitWhenStuck time.Duration `yaml:"exit_when_stuck,omitempty"`
	// StateDir is a folder of ocspd's own, made if it does not exist. When a token refuses the
	// PIN, ocspd stores in it the inode, size and modification time of the PIN file, nothing of
	// the PIN. It does not offer that PIN again, also not after a restart, until the file is
	// touched: real tokens lock after a few wrong PINs. If the folder cannot be written, no PIN
	// is offered at the start. Default: the unit's StateDirectory= ($STATE_DIRECTORY), else
	// /var/lib/ocspd.
	StateDir string `yaml:"state_dir,omitempty"`
	// Issuers are the CA keys that this site answers for, and no others, whatever its database
	// says. At least one.
	Issuers []Issuer `yaml:"issuers,omitempty"`
	// Feed pins the root of the fleet's signing keys. With it a permanent revocation is removed
	// only by a correction that a named key signed. If the root also names keys for the feed,
	// this site's copy never counts as fresher than a signed checkpoint of the master says,
	// whatever the database says. Left out: no permanent revocation is ever removed here, and
	// the head's own time counts.
	Feed OcspdFeed `yaml:"feed,omitempty"`
	// DrainDelay is how long ocspd still answers after a stop was requested, with /readyz
	// already 503, so that load balancers turn away first. Default 5s; 0s without a load
	// balancer.
	DrainDelay time.Duration `yaml:"drain_delay,omitempty"`
	// MaxConnections bounds the public listener. Default 4096: at 20 kB each that is 80 MB. A
	// further one closes the connection that has waited longest without a whole request, never
	// one whose request is being answered; if there is none to close, it waits in the kernel's
	// queue.
	MaxConnections int `yaml:"max_connections,omitempty"`
	// MaxHalfOpen bounds the connections of one client, an IPv4 address or an IPv6 /64 network,
	// on which no whole request has arrived yet. Default 64: a request arrives in one round
	// trip, so even thousands of clients behind one address stay far below. A further one
	// closes the client's oldest. Loopback and the trusted proxies themselves have no such
	// bound.
	MaxHalfOpen int `yaml:"max_half_open,omitempty"`
	// TrustedProxies are the proxies in front that name their clients; no other peer is trusted
	// to do so. Default none: the peer is the client, and a proxy or CDN not listed here counts
	// as one client, with max_half_open. The first entry that matches counts.
	TrustedProxies []TrustedProxy `yaml:"trusted_proxies,omitempty"`
	// CacheMB bounds the cache of signatures, in MiB. Default 64, room for
	// 35,000 answers. -1 turns it off: each answer is then signed again.
	CacheMB int64 `yaml:"cache_mb,omitempty"`
	// Poll is how often the database is read for changes even without a notification from it.
	// Default 1s.
	Poll time.Duration `yaml:"poll,omitempty"`
	// LogLevel is debug, info, warn or error. Default info.
	LogLevel slog.Level `yaml:"log_level,omitempty"`
}

// TrustedProxy is a proxy in front; exactly one of proxy_protocol and header is set.
type TrustedProxy struct {
	// Address is the proxy's address: 192.0.2.7, or a network, 192.0.2.0/24.
	Address string `yaml:"address,omitempty"`
	// ProxyProtocol says that each of its connections begins with a PROXY header, of version 1
	// or 2 (HAProxy: send-proxy-v2). A connection from this address without one is closed, also
	// if another program made it. So a proxy on this machine needs its own address (HAProxy:
	// source 127.0.0.2), so that ocspctl can still ask from 127.0.0.1.
	ProxyProtocol bool `yaml:"proxy_protocol,omitempty"`
	// Header is the HTTP header with the client's address in each request, X-Real-IP or
	// X-Forwarded-For: the last address counts. The proxy must set it or append to it, and must
	// not pass on the client's own.
	Header string `yaml:"header,omitempty"`
}

// OcspdFeed says how ocspd uses the signed feed.
type OcspdFeed struct {
	// Root is the verifier key of the feed's offline root, as ocspctl feed key
	// generate printed it: ca.example/status+1a2b3c4d+AbC...
	Root string `yaml:"root,omitempty"`
	// AskSocket is the Unix socket of this site's ocspsyncd, the same path as feed.ask_socket
	// in ocspsyncd.yaml. For a serial that the copy says was never issued, ocspd then asks the
	// master, and uses its signed answer for at most 5 minutes; without an answer within a
	// second, the client gets unauthorized. Not for issuers of profile br. Needs root. Empty:
	// off, the copy alone counts.
	AskSocket string `yaml:"ask_socket,omitempty"`
	// State is a file with the highest number of a key set that ocspd has seen. With it, also
	// after a restart, write access to the database is not enough to show ocspd an older set
	// with a key that was stolen and banned since. Its folder must exist, must be writable for
	// ocspd, and closed to ocspsyncd. Default empty: the number is forgotten when the process
	// ends, and ocspd writes no file at all.
	State string `yaml:"state,omitempty"`
	// OnFork says what happens while ocspd knows two statements of the feed that contradict
	// each other, both by keys in the newest key set: a key of the master was stolen, or two
	// masters publish. "age", the default: this site answers from the history that it had
	// first, which ages if nothing continues it; /readyz stays 200 and names the fork, so that
	// one forged note does not make a balancer drop all sites. "stop_good": good and unknown
	// are not answered, and /readyz is 503. Needs root.
	OnFork string `yaml:"on_fork,omitempty"`
}

// SigningToken is a token that signs answers.
type SigningToken struct {
	Token `yaml:",inline"`
	// MaxSessions is how many PKCS#11 sessions are opened; one holds the
	// login, the others sign. Default: the number of CPUs + 1.
	MaxSessions int `yaml:"max_sessions,omitempty"`
	// SignTimeout is how long one signature may take, waiting included, before the client gets
	// tryLater. Default 2s.
	SignTimeout time.Duration `yaml:"sign_timeout,omitempty"`
}

// Issuer pins one CA, a key with a name; exactly one of the two is set.
type Issuer struct {
	// Certificate is a file with a certificate of the issuer, PEM or DER.
	Certificate string `yaml:"certificate,omitempty"`
	// Fingerprint is the SHA-256 of the certificate in the database, in hex.
	Fingerprint string `yaml:"fingerprint,omitempty"`
}

// DefaultOcspd returns the defaults.
func DefaultOcspd() Ocspd {
	return Ocspd{Admin: "127.0.0.1:9080", StateDir: "/var/lib/ocspd", ExitWhenStuck: time.Hour, DrainDelay: 5 * time.Second, MaxConnections: 4096, CacheMB: 64, Poll: time.Second}
}

// Check finds what strict reading cannot.
func (c *Ocspd) Check(report func(key, problem string)) {
	required := func(key, value, example string) {
		if value == "" {
			report(key, "is missing: for example "+example)
		}
	}
	required("listen", c.Listen, `":80"`)
	required("database.dsn", c.Database.DSN, "postgres://ocspd@127.0.0.1:5432/ocspfleet?sslmode=disable")
	required("token.uri", c.Token.URI, `"pkcs11:token=site-a"`)
	for i, token := range c.MoreTokens {
		required(fmt.Sprintf("more_tokens[%d].uri", i), token.URI, `"pkcs11:token=site-a-new"`)
	}
	for i, token := range c.Tokens() {
		key := "token"
		if i > 0 {
			key = fmt.Sprintf("more_tokens[%d]", i-1)
		}
		if _, err := tokenconf.ParseURI(token.URI); token.URI != "" && err != nil {
			report(key+".uri", err.Error())
		}
		if token.SignTimeout < 0 {
			report(key+".sign_timeout", "cannot be negative")
		}
	}
	if least := max(c.SignTimeout(), tokenconf.DefaultSignTimeout); c.ExitWhenStuck != 0 && c.ExitWhenStuck < least {
		report("exit_when_stuck", "wants at least the longest sign_timeout ("+least.String()+"), or 0s for never")
	}
	c.Feed.Check(report)
	if len(c.Issuers) == 0 {
		report("issuers", "is empty: name at least one issuer by certificate or fingerprint")
	}
	for i, issuer := range c.Issuers {
		if _, _, err := issuer.Read(); err != nil {
			report(fmt.Sprintf("issuers[%d]", i), err.Error())
		}
	}
	if c.MaxConnections < 1 {
		report("max_connections", "is "+strconv.Itoa(c.MaxConnections)+": want at least 1")
	}
	if c.MaxHalfOpen < 1 {
		report("max_half_open", "is "+strconv.Itoa(c.MaxHalfOpen)+": want at least 1")
	}
	if c.CacheMB == 0 || c.CacheMB < -1 {
		report("cache_mb", "wants a size in MiB, or -1 for no cache")
	}
	if c.Poll < 10*time.Millisecond || c.Poll > time.Minute {
		report("poll", "wants 10ms to 1m")
	}
	if c.DrainDelay < 0 {
		report("drain_delay", "cannot be negative")
	}
}

// Tokens returns all tokens, token first.
func (c *Ocspd) Tokens() []SigningToken { return append([]SigningToken{c.Token}, c.MoreTokens...) }

// SignTimeout is how long an answer waits: the longest sign_timeout of all tokens.
func (c *Ocspd) SignTimeout() time.Duration {
	longest := time.Duration(0)
	for _, token := range c.Tokens() {
		longest = max(longest, token.SignTimeout)
	}
	return longest
}

// Read returns the certificate in DER, or its fingerprint.
func (i Issuer) Read() (der []byte, fingerprint [sha256.Size]byte, err error) {
	if (i.Certificate == "") == (i.Fingerprint == "") {
		return nil, fingerprint, fmt.Errorf("wants either certificate or fingerprint")
	}
	if i.Fingerprint != "" {
		sum, err := hex.DecodeString(strings.ReplaceAll(i.Fingerprint, ":", ""))
		if err != nil || len(sum) != sha256.Size {
			return nil, fingerprint, fmt.Errorf("fingerprint %q: want the %d hexadecimal digits of a SHA-256", i.Fingerprint, 2*sha256.Size)
		}
		return nil, [sha256.Size]byte(sum), nil
	}
	raw, err := os.ReadFile(i.Certificate)
	if err != nil {
		return nil, fingerprint, err
	}
	if block, _ := pem.Decode(raw); block != nil {
		raw = block.Bytes
	}
	return raw, fingerprint, nil
}

// The values of on_fork.
const ForkAge, ForkStopGood = "age", "stop_good"

// Check finds what strict reading cannot.
func (f OcspdFeed) Check(report func(key, problem string)) {
	switch {
	case f.OnFork != "" && f.OnFork != ForkAge && f.OnFork != ForkStopGood:
		report("feed.on_fork", fmt.Sprintf("is %q: want %s or %s", f.OnFork, ForkAge, ForkStopGood))
	case f.OnFork != "" && f.Root == "":
		report("feed.on_fork", "needs feed.root: whose a note is, it tells alone")
	}
	switch {
	case f.AskSocket == "":
	case f.Root == "":
		report("feed.ask_socket", "needs feed.root: answers are believed under it alone")
	case !filepath.IsAbs(f.AskSocket):
		report("feed.ask_socket", "wants an absolute path")
	}
	if f.Root == "" {
		if f.State != "" {
			report("feed.state", "is of no use without feed.root")
		}
		return
	}
	if _, err := ParseRoot(f.Root); err != nil {
		report("feed.root", err.Error())
	}
}

// ParseRoot reads the verifier key of a feed's root; its name is the origin.
func ParseRoot(text string) (note.Verifier, error) {
	root, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("%q: want NAME+HASH+BASE64, as ocspctl feed key generate printed it", text)
	}
	if err := feed.CheckOrigin(root.Name()); err != nil {
		return nil, err
	}
	return root, nil
}
