package devfleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Fleet is a fleet on this machine, as fleet.json describes it. Paths are
// relative to the root (see Path), serials are lower-case hex of the DER content
// octets, times are in UTC and whole seconds. The JSON is a contract: tests and
// benches outside of this module read it.
type Fleet struct {
	Master        Master   `json:"master"`
	Sites         []Site   `json:"sites"`
	Issuers       []Issuer `json:"issuers"`
	Ocspctl       string   `json:"ocspctl"`
	OcspctlConfig string   `json:"ocspctl_config"`
	// ApproverConfig is the second person's, CorrectKey that person's key.
	ApproverConfig string `json:"approver_config"`
	CorrectKey     string `json:"correct_key"`

	opts  Options
	trust *trust     // while it is built
	mu    sync.Mutex // guards the pids above, which Start and a restart change
}

// Master is the CA's side of the fleet.
type Master struct {
	DSN          string     `json:"dsn"` // of the staff's login
	SuperuserDSN string     `json:"superuser_dsn"`
	FeedURL      string     `json:"feed_url"` // empty: there is no feed
	PIDs         MasterPIDs `json:"pids"`
}

// MasterPIDs are process ids of the daemons themselves; 0: down.
type MasterPIDs struct {
	Postgres  int `json:"postgres"`
	Ocspsyncd int `json:"ocspsyncd"`
}

// Site is one responder site.
type Site struct {
	Name         string   `json:"name"`
	URL          string   `json:"url"`       // of the OCSP responder
	AdminURL     string   `json:"admin_url"` // of ocspd: /healthz, /readyz, /metrics
	DSN          string   `json:"dsn"`       // of ocspd's login
	SuperuserDSN string   `json:"superuser_dsn"`
	Sync         string   `json:"sync"` // logical or feed
	PIDs         SitePIDs `json:"pids"`
	Token        Token    `json:"token"`
	ConfigDir    string   `json:"config_dir"`
}

// SitePIDs are process ids of the daemons themselves; 0: down.
type SitePIDs struct {
	Postgres  int `json:"postgres"`
	Ocspd     int `json:"ocspd"`
	Ocspsyncd int `json:"ocspsyncd"`
}

// Token is where a site's OCSP key lies.
type Token struct {
	URI          string `json:"uri"`
	Module       string `json:"module"`
	SoftHSM2Conf string `json:"softhsm2_conf"` // absolute
}

// Issuer is one CA with what a test must know of its certificates.
type Issuer struct {
	Name         string   `json:"name"`
	Certificate  string   `json:"certificate"`
	Chain        []string `json:"chain"`         // intermediates, this issuer among them
	TrustAnchors []string `json:"trust_anchors"` // the first one is self-signed
	Policy       Policy   `json:"policy"`
	Serials      Serials  `json:"serials"`
	Leaf         Leaf     `json:"leaf"`
}

// Policy is the part of the issuer's policy that its answers show.
type Policy struct {
	NeverIssued string `json:"never_issued"`
	Profile     string `json:"profile"`
	Validity    string `json:"validity"` // like "72h"
}

// Serials are examples of each kind, true when the fleet was started.
type Serials struct {
	Good        []string  `json:"good"`
	Revoked     []Revoked `json:"revoked"`
	NeverIssued []string  `json:"never_issued"`
}

// Revoked is one revoked certificate.
type Revoked struct {
	Serial    string  `json:"serial"`
	RevokedAt string  `json:"revoked_at"`
	Reason    *string `json:"reason"` // a name of RFC 5280; null: none was given
}

// Leaf holds certificates for TLS servers that staple.
type Leaf struct {
	Good    LeafCertificate `json:"good"`
	Revoked LeafCertificate `json:"revoked"`
}

// LeafCertificate is a certificate with its key, both PEM files.
type LeafCertificate struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	Host        string `json:"host,omitempty"`
}

// Path returns the absolute form of a path of the description.
func (f *Fleet) Path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(f.opts.Root, name)
}

// Rel is the form that fleet.json has: relative where it lies under the root.
func (f *Fleet) Rel(path string) string {
	name, err := filepath.Rel(f.opts.Root, path)
	if err != nil || name == ".." || strings.HasPrefix(name, "../") {
		return path
	}
	return name
}

// Root returns the folder that relative paths are relative to.
func (f *Fleet) Root() string { return f.opts.Root }

// Dir returns the fleet's folder.
func (f *Fleet) Dir() string { return f.opts.Dir }

const (
	describedIn = "fleet.json"
	startedWith = "started-with.json" // the marker: who finds it knows the folder is a fleet's
)

// started is what a later call must know beside fleet.json.
type started struct {
	Root     string `json:"root"`
	Bin      string `json:"bin"`
	Sites    int    `json:"sites"`
	Certs    int    `json:"certs"`
	Sync     string `json:"sync"`
	BasePort int    `json:"base_port"`
	Whole    bool   `json:"whole"` // the fleet was ready once
}

func (o *Options) remember(whole bool) error {
	return writeJSON(filepath.Join(o.Dir, startedWith), started{
		Root: o.Root, Bin: o.Bin, Sites: o.Sites, Certs: o.Certs, Sync: o.Sync, BasePort: o.BasePort, Whole: whole,
	})
}

// Attach finds the fleet in dir, whether its parts run or not. It returns
// fs.ErrNotExist when there is none.
func Attach(dir string) (*Fleet, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("naming %s: %w", dir, err)
	}
	var s started
	if err := readJSON(filepath.Join(dir, startedWith), &s); err != nil {
		return nil, fmt.Errorf("looking for a fleet in %s: %w", dir, err)
	}
	if !s.Whole {
		return nil, fmt.Errorf("looking for a fleet in %s: its start was cut short: %w", dir, fs.ErrNotExist)
	}
	f := &Fleet{opts: Options{Dir: dir, Root: s.Root, Bin: s.Bin, Sites: s.Sites, Certs: s.Certs, Sync: s.Sync, BasePort: s.BasePort}}
	if err := f.opts.settle(); err != nil {
		return nil, fmt.Errorf("reading the fleet in %s: %w", dir, err)
	}
	if err := readJSON(filepath.Join(dir, describedIn), f); err != nil {
		return nil, fmt.Errorf("reading the fleet in %s: %w", dir, err)
	}
	return f, nil
}

// write replaces fleet.json, with the pids of this moment.
func (f *Fleet) write() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Master.PIDs = MasterPIDs{Postgres: f.pid("master/postgres"), Ocspsyncd: f.pid("master/ocspsyncd")}
	for i := range f.Sites {
		name := f.Sites[i].Name
		f.Sites[i].PIDs = SitePIDs{Postgres: f.pid(name + "/postgres"), Ocspd: f.pid(name + "/ocspd"), Ocspsyncd: f.pid(name + "/ocspsyncd")}
	}
	return writeJSON(filepath.Join(f.opts.Dir, describedIn), f)
}

func writeJSON(path string, what any) error {
	raw, err := json.MarshalIndent(what, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	// Renamed, so that a reader never meets half a file.
	if err := os.WriteFile(path+".new", append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func readJSON(path string, what any) error {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if err := json.Unmarshal(raw, what); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}
