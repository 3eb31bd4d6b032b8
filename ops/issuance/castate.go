package issuance

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"ocspfleet/db"
)

// State is what a CA remembers beside its key, in a folder that only its user can
// write to. The file ledger has a line for each thing:
//
//	made SERIAL                      drawn here, for the master to plan with
//	signed SERIAL END KEY            written before the signature: each is signed once
//	seen REQUEST TIME                a certificate request, when it was first shown
//	deny-key KEY                     never certified again
//	deny-certificate SERIAL          no proof of a key any more
//
// KEY and REQUEST are SHA-256 in hex. Lines are only added; people may add deny lines by hand. The
// file crl.json has the last CRL of each scope (crlmemory.go).
type State struct{ dir string }

// OpenState sets the folder, which is made at the first write.
func OpenState(dir string) *State { return &State{dir} }

// ledger is the content of the file ledger.
type ledger struct {
	made         map[string]signed
	seen         map[[32]byte]time.Time
	keys         map[[32]byte]bool
	certificates map[string]bool
}

// signed is what was signed under a serial; the zero value: nothing yet.
type signed struct {
	end time.Time
	key [32]byte
}

func (s *State) file(name string) string { return filepath.Join(s.dir, name) }

// read reads the ledger; a missing file gives an empty one.
func (s *State) read() (*ledger, error) {
	text, err := os.ReadFile(s.file("ledger"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading what the CA remembers: %w", err)
	}
	if err == nil {
		if err := s.private(); err != nil {
			return nil, err
		}
	}
	return s.parse(text)
}

// private refuses a memory that other users could have changed.
func (s *State) private() error {
	for _, path := range []string{s.dir, s.file("ledger"), s.file("crl.json")} {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("looking at what the CA remembers: %w", err)
		}
		if info.Mode().Perm()&0o022 != 0 {
			return fmt.Errorf("%s can be written by others (%s): what the CA remembers there is not to be trusted (chmod go-w, after a look at it)", path, info.Mode().Perm())
		}
	}
	return nil
}

func (s *State) parse(text []byte) (*ledger, error) {
	l := &ledger{map[string]signed{}, map[[32]byte]time.Time{}, map[[32]byte]bool{}, map[string]bool{}}
	text = text[:whole(text)]
	for n, line := range strings.Split(string(text), "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		if err := l.line(strings.Fields(line)); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", s.file("ledger"), n+1, err)
		}
	}
	return l, nil
}

// whole returns the length of the complete lines: a last line without its end was interrupted,
// before anything was signed by it.
func whole(text []byte) int { return bytes.LastIndexByte(text, '\n') + 1 }

func (l *ledger) line(words []string) error {
	form := words[0] + " " + fmt.Sprint(len(words)-1)
	switch form {
	case "made 1", "signed 3", "deny-certificate 1":
		serial, err := db.ParseSerial(words[1])
		if err != nil {
			return err
		}
		switch words[0] {
		case "made":
			l.made[string(serial)] = signed{}
			return nil
		case "deny-certificate":
			l.certificates[string(serial)] = true
			return nil
		}
		end, err := time.Parse(time.RFC3339, words[2])
		if err != nil {
			return err
		}
		key, err := parseHash(words[3])
		l.made[string(serial)] = signed{end, key}
		return err
	case "seen 2":
		hash, err := parseHash(words[1])
		if err != nil {
			return err
		}
		l.seen[hash], err = time.Parse(time.RFC3339, words[2])
		return err
	case "deny-key 1":
		key, err := parseHash(words[1])
		l.keys[key] = true
		return err
	}
	return fmt.Errorf("%q: want made, signed, seen, deny-key or deny-certificate", strings.Join(words, " "))
}

func parseHash(text string) (hash [32]byte, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(hash) {
		return hash, fmt.Errorf("%q: want a SHA-256 in hex", text)
	}
	return [32]byte(raw), nil
}

// change lets do read the ledger and return the lines to add, under an exclusive lock. The lines
// are on the disk when it returns.
func (s *State) change(do func(*ledger) (lines []string, err error)) (err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("making the folder of what the CA remembers: %w", err)
	}
	file, err := os.OpenFile(s.file("ledger"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("opening what the CA remembers: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }() // and so releases the lock
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", file.Name(), err)
	}
	if err := s.private(); err != nil {
		return err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return fmt.Errorf("reading what the CA remembers: %w", err)
	}
	l, err := s.parse(text)
	if err != nil {
		return err
	}
	lines, err := do(l)
	if err != nil || len(lines) == 0 {
		return err
	}
	_, err = file.WriteAt([]byte(strings.Join(lines, "\n")+"\n"), int64(whole(text)))
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		return fmt.Errorf("writing what the CA remembers: %w", err)
	}
	return nil
}

// makeSerials draws serials for the master to plan certificates with.
func (s *State) makeSerials(count int, random io.Reader) ([]db.Serial, error) {
	if count < 1 || count > MaxSerials {
		return nil, fmt.Errorf("%d serials at once: want 1 to %d", count, MaxSerials)
	}
	var serials []db.Serial
	err := s.change(func(l *ledger) (lines []string, err error) {
		for len(serials) < count {
			serial, err := newSerial(random)
			if err != nil {
				return nil, err
			}
			if _, there := l.made[string(serial)]; there { // 2^-127 by chance
				return nil, fmt.Errorf("serial %s was drawn a second time: the source of randomness is broken", serial)
			}
			l.made[string(serial)] = signed{}
			serials, lines = append(serials, serial), append(lines, "made "+serial.String())
		}
		return lines, nil
	})
	return serials, err
}

// MaxSerials is how many serials are made at once: enough for a year of some 100 sites.
const MaxSerials = 10_000

// deny adds the missing entries to the deny list; none is ever removed.
func (s *State) deny(d Denied) error {
	if len(d.Keys)+len(d.Certificates) == 0 {
		return nil
	}
	return s.change(func(l *ledger) ([]string, error) {
		keys, certificates := l.lacks(d)
		var lines []string
		for _, key := range keys {
			lines = append(lines, "deny-key "+hex.EncodeToString(key[:]))
		}
		for _, serial := range certificates {
			lines = append(lines, "deny-certificate "+serial.String())
		}
		return lines, nil
	})
}

// lacks returns the part of d that is not on the deny list.
func (l *ledger) lacks(d Denied) (keys [][32]byte, certificates []db.Serial) {
	keys = slices.DeleteFunc(slices.Clone(d.Keys), func(k [32]byte) bool { return l.keys[k] })
	certificates = slices.DeleteFunc(slices.Clone(d.Certificates), func(s db.Serial) bool { return l.certificates[string(s)] })
	return keys, certificates
}

// wish is a request to sign a certificate.
type wish struct {
	request  *Request
	serial   db.Serial
	notAfter time.Time
}

// judge says why a certificate must not be signed. oldest is the greatest age of a proof.
func (l *ledger) judge(w wish, oldest time.Duration, now time.Time) error {
	if err := l.admit(w.request, oldest, now); err != nil {
		return err
	}
	switch before, made := l.made[string(w.serial)]; {
	case !made:
		return fmt.Errorf("serial %s was not made by this CA (ocspctl ca-sign serials makes them, ocspctl responder serials takes them to the master)", w.serial)
	case !before.end.IsZero():
		return fmt.Errorf("serial %s was signed before, for key %x until %s, and each is signed once: draw up a new bundle", w.serial, before.key, before.end.UTC().Format(time.RFC3339))
	}
	return nil
}

// admit checks the key and its proof: neither may be on the deny list, and a request is valid for
// one life from when it was first shown. A request has no date, so an old one that was found
// somewhere would otherwise be valid for ever.
func (l *ledger) admit(r *Request, oldest time.Duration, now time.Time) error {
	switch first, seen := l.seen[r.proof]; {
	case l.keys[r.KeyHash]:
		return fmt.Errorf("key %x of site %q is on this CA's deny list", r.KeyHash, r.Site)
	case r.last != nil && l.certificates[string(r.last)]:
		return fmt.Errorf("certificate %s, by which site %q proves its key, is on this CA's deny list", r.last, r.Site)
	case seen && now.Sub(first) > oldest:
		return fmt.Errorf("the certificate request of site %q was first shown at %s, over %s ago: want a new one (ocspctl key csr)", r.Site, first.Format(time.RFC3339), oldest)
	}
	return nil
}

// take checks certificates that are to be signed, all or none, and records them. A later failure
// only costs serials.
func (s *State) take(wishes []wish, oldest time.Duration, now time.Time) error {
	return s.change(func(l *ledger) (lines []string, err error) {
		for _, w := range wishes {
			if err := l.judge(w, oldest, now); err != nil {
				return nil, err
			}
			l.made[string(w.serial)] = signed{w.notAfter, w.request.KeyHash}
			lines = append(lines, fmt.Sprintf("signed %s %s %x", w.serial, w.notAfter.UTC().Format(time.RFC3339), w.request.KeyHash))
			if _, there := l.seen[w.request.proof]; !there && w.request.proof != [32]byte{} {
				l.seen[w.request.proof] = now
				lines = append(lines, fmt.Sprintf("seen %x %s", w.request.proof, now.UTC().Format(time.RFC3339)))
			}
		}
		return lines, nil
	})
}

// WritePrivate replaces a file at once; only its owner can read it. If the process is killed
// before the end, the old file stays.
func WritePrivate(path string, text []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
