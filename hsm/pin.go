package hsm

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A real token locks after a few wrong PINs, and only its security officer opens it
// again. So a PIN file whose PIN the token refused is not read out to it a second time,
// by this process or a later one, until somebody has touched the file.

const maxPINLen = 4096 // octets; a longer file is not a PIN file

// offer is a PIN and which state of its file it was read from.
type offer struct {
	pin  string
	mark string // inode, size and modification time; nothing of the PIN
}

// readPIN reads the PIN anew: it may have been rotated while we ran.
func (s settings) readPIN() (offer, error) {
	fail := func(err error) (offer, error) {
		if errors.Is(err, fs.ErrPermission) {
			err = errors.Join(err, unreadable(s.PINFile, mayRead))
		}
		return offer{}, fmt.Errorf("reading the PIN file: %w", err)
	}
	file, err := os.Open(s.PINFile)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return fail(err)
	}
	if info.Size() > maxPINLen {
		return offer{}, fmt.Errorf("reading the PIN file %s: %d octets are too many for a PIN", s.PINFile, info.Size())
	}
	raw, err := io.ReadAll(io.LimitReader(file, maxPINLen))
	if err != nil {
		return fail(err)
	}
	pin := strings.TrimRight(string(raw), " \t\r\n")
	if pin == "" {
		return offer{}, fmt.Errorf("reading the PIN file %s: it is empty", s.PINFile) // not offered: an empty PIN counts as a wrong one
	}
	var inode uint64
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = stat.Ino
	}
	return offer{pin, fmt.Sprintf("%d-%d-%d", inode, info.Size(), info.ModTime().UnixNano())}, nil
}

// pinFileOpen says whether others than its owner may read the PIN file.
func (s settings) pinFileOpen() (mode fs.FileMode, open bool) {
	info, err := os.Stat(s.PINFile)
	if err != nil {
		return 0, false
	}
	return info.Mode().Perm(), info.Mode().Perm()&0o077 != 0
}

// notes is the beginning of the names in StateDir that are about one token. A note says
// all by its name: whoever may search the folder knows, whoever wrote it.
func (s settings) notes(serial string) string {
	return filepath.Join(s.StateDir, "refused-pin-"+url.PathEscape(serial)+"-")
}

// refusedBefore returns ErrPIN if the token has refused the PIN of the file as it is.
func (s settings) refusedBefore(serial, mark string) error {
	if s.StateDir == "" {
		return nil
	}
	info, err := os.Lstat(s.notes(serial) + mark)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return s.forgetful(err)
	}
	return fmt.Errorf("%w in %s at %s, and it is not offered again: put the right PIN into the file or, if the token was set right since: touch %s",
		ErrPIN, s.PINFile, info.ModTime().UTC().Format(time.RFC3339), s.PINFile)
}

func (s settings) forgetful(err error) error {
	return fmt.Errorf("remembering in %s a PIN that the token may refuse: no PIN is offered without, since a token locks after a few wrong ones: let state_dir be a folder that this user may write, with room: %w", s.StateDir, err)
}

// pending writes the note of a refusal before it comes: afterwards the disk may be full.
// The name is this process's own; "" without StateDir.
func (s settings) pending(serial string) (string, error) {
	if s.StateDir == "" {
		return "", nil
	}
	if err := os.MkdirAll(s.StateDir, 0o700); err != nil {
		return "", s.forgetful(err)
	}
	name := filepath.Join(s.StateDir, fmt.Sprintf(".offered-pin-%s-%d", url.PathEscape(serial), os.Getpid()))
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", s.forgetful(err)
	}
	_, err = fmt.Fprintf(file, "Token %s (serial %s) refused the PIN in %s.\n", s.name(), serial, s.PINFile)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", errors.Join(s.forgetful(err), os.Remove(name))
	}
	return name, nil
}

// settle makes the note last if the PIN was refused. Else it goes, and with a PIN that
// was taken all earlier ones of this token: their files are no more.
func (s settings) settle(pending, serial, mark string, login error) error {
	if pending == "" {
		return nil
	}
	if !errors.Is(login, ErrPIN) {
		if login == nil {
			old, _ := filepath.Glob(globbed(s.notes(serial)) + "*") // the pattern is sound
			for _, note := range old {
				_ = os.Remove(note) // one that stays bars a file that is no more
			}
		}
		return os.Remove(pending)
	}
	if err := os.Rename(pending, s.notes(serial)+mark); err != nil {
		return s.forgetful(err)
	}
	folder, err := os.Open(s.StateDir)
	if err != nil {
		return s.forgetful(err)
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// globbed takes from a name what filepath.Glob would see as a pattern.
func globbed(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}

// login offers the PIN to the token found at that place, unless it has refused it before.
func (t *Token) login(at place, o offer) (*connection, error) {
	t.mu.Lock()
	refused, refusal, taken := t.refused, t.refusal, t.taken
	t.mu.Unlock()
	if refusal != nil && o.mark == refused {
		return nil, refusal
	}
	serial := at.info.SerialNumber
	err := t.refusedBefore(serial, o.mark)
	var pending string
	if err == nil {
		pending, err = t.pending(serial)
	}
	switch {
	case errors.Is(err, ErrPIN):
		return nil, err
	case err != nil && o.mark != taken:
		return nil, fmt.Errorf("opening token %s: %w", t.name(), err)
	case err != nil: // a PIN that was right: a full disk is no reason not to heal
		t.Logger.Warn("a refusal of the PIN would be forgotten at the next start", "reason", err)
	}
	l, err := t.dial(t.module.path, t.settings, at, o.pin)
	unsettled := t.settle(pending, serial, o.mark, err)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		t.taken, t.refused, t.refusal = o.mark, "", nil
	case errors.Is(err, ErrPIN):
		err = errors.Join(err, unsettled)
		t.refused, t.refusal = o.mark, err
	}
	return l, err
}
