package config

import "time"

// DNS says where the sites' addresses are in the DNS, and with which key ocspctl changes them.
// Without it ocspctl only lists the changes to be made by hand.
type DNS struct {
	// Zone is the zone's name: example.org.
	Zone string `yaml:"zone,omitempty"`
	// Server is the zone's primary, HOST:PORT, which takes dynamic updates (RFC 2136).
	Server string `yaml:"server,omitempty"`
	// Names are those that clients use: ocsp.example.org. Every active site must be listed at
	// each name, with its addresses of the kinds (A, AAAA) that the name has.
	Names []string `yaml:"names,omitempty"`
	// Key is the name of the TSIG key (RFC 8945), as the primary knows it.
	Key string `yaml:"key,omitempty"`
	// Algorithm of the key: hmac-sha256 (default), hmac-sha384 or hmac-sha512.
	Algorithm string `yaml:"algorithm,omitempty"`
	// SecretFile holds the key's secret: base64, or the output file of tsig-keygen or keymgr
	// -t. Readable by you only.
	SecretFile string `yaml:"secret_file,omitempty"`
	// TTL is for new addresses where a name has none of their kind (default 1m); otherwise they
	// get the existing TTL. For that long clients may still use a withdrawn site: 30s to 1h.
	TTL time.Duration `yaml:"ttl,omitempty"`
	// Servers are the zone's authoritative servers, HOST:PORT; a change is done when all of
	// them have it. Empty: those of the zone's NS records.
	Servers []string `yaml:"servers,omitempty"`
	// Dry reads the zone and prints what would change, and changes nothing.
	Dry bool `yaml:"dry,omitempty"`
}

// Set says whether a zone is configured.
func (d DNS) Set() bool {
	return d.Zone+d.Server+d.Key+d.Algorithm+d.SecretFile != "" || len(d.Names)+len(d.Servers) > 0 || d.TTL != 0 || d.Dry
}
