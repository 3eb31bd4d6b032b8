package config

import "time"

// DNS says where the sites' addresses stand in the DNS, and by which key ocspctl
// changes them there. Without it they are named for work by hand.
type DNS struct {
	// Zone is the zone's name: example.org.
	Zone string `yaml:"zone,omitempty"`
	// Server is the zone's primary, HOST:PORT, which takes dynamic updates (RFC 2136).
	Server string `yaml:"server,omitempty"`
	// Names are those that clients ask: ocsp.example.org. Every active site is to stand
	// at each, by its addresses of the kinds (A, AAAA) that the name has.
	Names []string `yaml:"names,omitempty"`
	// Key is the name of the TSIG key (RFC 8945), as the primary knows it.
	Key string `yaml:"key,omitempty"`
	// Algorithm of the key: hmac-sha256 (default), hmac-sha384 or hmac-sha512.
	Algorithm string `yaml:"algorithm,omitempty"`
	// SecretFile holds the key's secret: base64, or the file as tsig-keygen or keymgr -t
	// prints it. Readable by you only.
	SecretFile string `yaml:"secret_file,omitempty"`
	// TTL is that of addresses where a name has none of their kind (default 1m); else
	// they get the one that is there. It is for how long clients go on asking a site
	// that was withdrawn: 30s to 1h.
	TTL time.Duration `yaml:"ttl,omitempty"`
	// Servers are the zone's authoritative servers, HOST:PORT, that must have a change
	// before it counts as done. Empty: those of the zone's NS records.
	Servers []string `yaml:"servers,omitempty"`
	// Dry reads the zone and says what would change, and leaves the change to people.
	Dry bool `yaml:"dry,omitempty"`
}

// Set says whether there is a zone at all.
func (d DNS) Set() bool {
	return d.Zone+d.Server+d.Key+d.Algorithm+d.SecretFile != "" || len(d.Names)+len(d.Servers) > 0 || d.TTL != 0 || d.Dry
}
