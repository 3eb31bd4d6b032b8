package tokenconf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// Config is the configuration of a token.
type Config struct {
	// URI is the PKCS#11 URI of the token (RFC 7512): token=LABEL or serial=NUMBER,
	// and, unless Module and PINFile are set, module-path and pin-source. Required.
	URI string
	// Module is the path of the PKCS#11 library. Empty: the URI's module-path.
	Module string
	// PINFile is the file with the user PIN; blanks and newlines at its end are
	// dropped. Empty: the URI's pin-source. Must be readable by this user only.
	PINFile string
	// StateDir is a folder of this program alone, made if it does not exist. It holds a record
	// of each PIN that the token refused, for later processes, by inode, size and modification
	// time of PINFile. If it is set but cannot be written, no PIN is offered. Empty: a refusal
	// is remembered while the process lives.
	StateDir string
	// SoftHSM2Conf is the path of softhsm2.conf. It is put into the process
	// environment as SOFTHSM2_CONF before the library is loaded, since SoftHSM
	// takes its configuration from nowhere else. Empty: the environment stays as it
	// is; right for every other library.
	SoftHSM2Conf string
	// MaxSessions is how many sessions are opened; one of them holds the login, so one fewer
	// sign at a time. 0: GOMAXPROCS + 1, which gives SoftHSM its full rate at a tenth of the
	// latency of 8 or 32. Set more for a networked HSM (its round trip divided by its signing
	// time). At least 2.
	MaxSessions int
	// SignTimeout is the deadline of one signature, waiting included. 0: 2 s. Set it above the
	// slowest signature of the token under load and below the timeout of OCSP clients (5 s and
	// more).
	SignTimeout time.Duration
	// MaxQueue is how many signatures may wait for a session; more are refused at
	// once. 0: as many as the token can make in half of SignTimeout, from the
	// mean signing time seen (see the limiter of package hsm).
	MaxQueue int
}

// DefaultSignTimeout is Config.SignTimeout when it is 0.
const DefaultSignTimeout = 2 * time.Second

// Settings is a Config with every default filled in and its URI parsed.
type Settings struct {
	Config
	Parsed URI
}

// Settle fills in defaults and reports all that is missing or wrong.
func (c Config) Settle() (Settings, error) {
	uri, err := ParseURI(c.URI)
	if err != nil {
		return Settings{}, err
	}
	s := Settings{Config: c, Parsed: uri}
	if s.Module == "" {
		s.Module = uri.ModulePath
	}
	if s.PINFile == "" {
		s.PINFile = uri.PINSource
	}
	var faults []error
	if uri.Token == "" && uri.Serial == "" {
		faults = append(faults, errors.New("which token? add token=LABEL or serial=NUMBER to the PKCS#11 URI"))
	}
	if s.Module == "" {
		faults = append(faults, errors.New("which library? add module-path=/path/of/library.so to the PKCS#11 URI"))
	}
	if s.PINFile == "" {
		faults = append(faults, errors.New("where is the PIN? add pin-source=file:/path to the PKCS#11 URI"))
	}
	if s.MaxSessions == 0 {
		s.MaxSessions = runtime.GOMAXPROCS(0) + 1
	}
	if s.MaxSessions < 2 {
		faults = append(faults, fmt.Errorf("%d sessions: want at least 2, since one holds the login", s.MaxSessions))
	}
	if s.SignTimeout == 0 {
		s.SignTimeout = DefaultSignTimeout
	}
	if s.SignTimeout < 0 || s.MaxQueue < 0 {
		faults = append(faults, errors.New("a negative timeout or queue length"))
	}
	return s, errors.Join(faults...)
}

// Library returns the real path of the PKCS#11 library, so that two names of one library are
// seen as one.
func (s Settings) Library() (string, error) {
	path, err := filepath.EvalSymlinks(s.Module)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("loading PKCS#11 library %q: no such file: set module-path, or install it (for SoftHSM: apt install softhsm2)", s.Module)
	}
	if err != nil {
		return "", fmt.Errorf("loading PKCS#11 library %q: %w", s.Module, err)
	}
	return path, nil
}

// Environment sets SOFTHSM2_CONF in the process environment. In a cgo program Go's os.Setenv
// also changes the C library's environment, where SoftHSM reads it. SoftHSM has already read it
// when inUse is true.
func (s Settings) Environment(inUse bool) error {
	if s.SoftHSM2Conf == "" {
		return nil
	}
	if now := os.Getenv("SOFTHSM2_CONF"); inUse && now != s.SoftHSM2Conf {
		return fmt.Errorf("setting SOFTHSM2_CONF: SoftHSM reads one configuration per process, and that is %q: name it for both tokens, and have both in its directory", now)
	}
	if _, err := os.Stat(s.SoftHSM2Conf); err != nil {
		return fmt.Errorf("reading the SoftHSM configuration: %w", err)
	}
	if err := os.Setenv("SOFTHSM2_CONF", s.SoftHSM2Conf); err != nil {
		return fmt.Errorf("setting SOFTHSM2_CONF: %w", err)
	}
	return nil
}

// Name is the token's name in errors and logs.
func (s Settings) Name() string {
	if s.Parsed.Token != "" {
		return fmt.Sprintf("%q", s.Parsed.Token)
	}
	return fmt.Sprintf("with serial number %q", s.Parsed.Serial)
}

// Label is the token's name in metrics: its label or serial in the configuration.
func (s Settings) Label() string {
	if s.Parsed.Token != "" {
		return s.Parsed.Token
	}
	return s.Parsed.Serial
}
