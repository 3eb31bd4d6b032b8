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
	// Listen is the public address that OCSP clients reach, by plain HTTP
	// (RFC 9919 section 5): ":80", or a loopback port behind nginx or HAProxy.
	Listen string `yaml:"listen,omitempty"`
	// Admin is the address of /healthz, /readyz and /metrics. Loopback only.
	Admin string `yaml:"admin,omitempty"`
	// Database is this site's own PostgreSQL; the login is a member of
	// ocsp_responder and can only read. ocspd connects nowhere else, but to
	// feed.ask_socket if there is one.
	Database Database `yaml:"database,omitempty"`
	// Token holds this site's responder key.
	Token SigningToken `yaml:"token,omitempty"`
	// MoreTokens are further tokens, each with keys of its own: a partition per
	// issuer, or an old and a new HSM side by side while the site's key moves.
	// The certificates in the database say which key signs for which issuer.
	// SoftHSM tokens must share one softhsm2_conf.
	MoreTokens []SigningToken `yaml:"more_tokens,omitempty"`
	// ExitWhenStuck is how long every call of the PKCS#11 library may hang, of all
	// tokens, before ocspd ends with exit 1 to be started again by systemd. Until then
	// it gives what it signed before, which a new process has not. Default 1h. 0s:
	// never, somebody looks at /readyz. At least the longest sign_timeout.
	ExitWhenStuck time.Duration `yaml:"exit_when_stuck,omitempty"`
	// StateDir is a folder of ocspd's own, made if it is not there. When a token refuses
	// the PIN, ocspd remembers in it the inode, size and modification time of the PIN file,
	// nothing of the PIN, and does not offer it again, after a restart either, until the
	// file was touched: real tokens lock after a few wrong PINs. Where it cannot be
	// written no PIN is offered at the start. Default: the unit's StateDirectory=
	// ($STATE_DIRECTORY), else /var/lib/ocspd.
	StateDir string `yaml:"state_dir,omitempty"`
	// Issuers are the CA keys this site answers for, and no others, whatever
	// its database says. At least one.
	Issuers []Issuer `yaml:"issuers,omitempty"`
	// Feed pins the root of the fleet's signing keys. With it a permanent revocation is
	// taken back by a correction that a named key signed, and, where the root names keys
	// for the feed, this site's knowledge is never taken for fresher than a checkpoint
	// says that the master signed, whoever writes the database. Left out: no permanent
	// revocation is ever taken back here, and the head's word counts for its age.
	Feed OcspdFeed `yaml:"feed,omitempty"`
	// DrainDelay is how long ocspd goes on answering after a stop was asked
	// for, with /readyz already 503, so that load balancers turn away first.
	// Default 5s; 0s behind nothing.
	DrainDelay time.Duration `yaml:"drain_delay,omitempty"`
	// MaxConnections bounds the public listener. Default 4096: at 20 kB each
	// that is 80 MB. One more closes the connection that has waited longest without a
	// whole request, never one whose request is worked on; where there is none, it waits
	// in the kernel's queue.
	MaxConnections int `yaml:"max_connections,omitempty"`
	// MaxHalfOpen bounds the connections of one client, an IPv4 address or an IPv6 /64
	// network, on which no whole request has come yet. Default 64: a request comes in one
	// round trip, so that thousands behind one address stay far below. One more closes the
	// client's oldest. Loopback and trusted proxies themselves have no such bound.
	MaxHalfOpen int `yaml:"max_half_open,omitempty"`
	// TrustedProxies are those in front that name the client they speak for; nobody else
	// is believed. Default none: who connects is the client, and a proxy or CDN not
	// named here is one client, with max_half_open. The first that matches counts.
	TrustedProxies []TrustedProxy `yaml:"trusted_proxies,omitempty"`
	// CacheMB bounds the cache of signatures, in MiB. Default 64, room for
	// 35,000 answers. -1 turns it off: each answer is then signed anew.
	CacheMB int64 `yaml:"cache_mb,omitempty"`
	// Poll is how often the database is asked for changes even if it did not
	// say that there are any. Default 1s.
	Poll time.Duration `yaml:"poll,omitempty"`
	// LogLevel is debug, info, warn or error. Default info.
	LogLevel slog.Level `yaml:"log_level,omitempty"`
}

// TrustedProxy is a proxy in front; exactly one of proxy_protocol and header is set.
type TrustedProxy struct {
	// Address is from where it connects: 192.0.2.7, or a network, 192.0.2.0/24.
	Address string `yaml:"address,omitempty"`
	// ProxyProtocol says that each of its connections begins with a PROXY header, of
	// version 1 or 2 (HAProxy: send-proxy-v2). One that does not is closed, whoever else
	// connects from there: a proxy on this machine takes an address of its own
	// (HAProxy: source 127.0.0.2), so that ocspctl can still ask from 127.0.0.1.
	ProxyProtocol bool `yaml:"proxy_protocol,omitempty"`
	// Header is the one in which it names the client in each request, X-Real-IP or
	// X-Forwarded-For: the last address counts. The proxy must set it or append to it,
	// never pass on what the client sent.
	Header string `yaml:"header,omitempty"`
}

// OcspdFeed says what is believed of the signed feed.
type OcspdFeed struct {
	// Root is the verifier key of the feed's offline root, as ocspctl feed key
	// generate printed it: ca.example/status+1a2b3c4d+AbC...
	Root string `yaml:"root,omitempty"`
	// AskSocket is the Unix socket of this site's ocspsyncd, the same path as
	// feed.ask_socket in ocspsyncd.yaml. A serial that the copy says was never issued is
	// then asked for at the master, and its signed answer said for at most 5 minutes; if
	// nobody answers within a second, the client gets unauthorized. Not for issuers of
	// profile br. Needs root. Empty: off, the copy's word counts.
	AskSocket string `yaml:"ask_socket,omitempty"`
	// State is a file in which ocspd keeps the highest number of a key set that it has
	// seen, so that after a restart, too, nobody who writes the database can show it an
	// older set, with a key that was stolen and banned since. Its folder must exist, be
	// ocspd's to write, and closed to ocspsyncd. Default empty: the number is forgotten
	// with the process, and ocspd writes no file at all.
	State string `yaml:"state,omitempty"`
	// OnFork says what happens while two statements of the feed that contradict each other
	// are known here, both by keys that the newest key set admits: a key of the master was
	// stolen, or two masters publish. "age", the default: this site answers on by the
	// history that it had first, which ages where nothing continues it; /readyz stays 200
	// and names the fork, so that no balancer drops all sites for one forged note.
	// "stop_good": good and unknown end, and /readyz says 503. Needs root.
	OnFork string `yaml:"on_fork,omitempty"`
}

// SigningToken is a token that signs answers.
type SigningToken struct {
	Token `yaml:",inline"`
	// MaxSessions is how many PKCS#11 sessions are opened; one holds the
	// login, the others sign. Default: the number of CPUs + 1.
	MaxSessions int `yaml:"max_sessions,omitempty"`
	// SignTimeout is how long one signature may take, waiting included, before
	// the client is told tryLater. Default 2s.
	SignTimeout time.Duration `yaml:"sign_timeout,omitempty"`
}

// Issuer pins one CA key under one name; exactly one of the two is set.
type Issuer struct {
	// Certificate is a file with a certificate of the issuer, PEM or DER.
	Certificate string `yaml:"certificate,omitempty"`
	// Fingerprint is the SHA-256 of the certificate in the database, in hex.
	Fingerprint string `yaml:"fingerprint,omitempty"`
}

// DefaultOcspd is what holds where the file says nothing.
func DefaultOcspd() Ocspd {
	return Ocspd{Admin: "127.0.0.1:9080", StateDir: "/var/lib/ocspd", ExitWhenStuck: time.Hour, DrainDelay: 5 * time.Second, MaxConnections: 4096, CacheMB: 64, Poll: time.Second}
}

// Check judges what strict reading cannot.
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

// Tokens are all tokens, the first one first.
func (c *Ocspd) Tokens() []SigningToken { return append([]SigningToken{c.Token}, c.MoreTokens...) }

// SignTimeout is how long an answer waits: as the slowest token may take.
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

// What is done while the feed is forked.
const ForkAge, ForkStopGood = "age", "stop_good"

// Check judges what strict reading cannot.
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
