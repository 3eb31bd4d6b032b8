package tokenconf

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

// A real token locks after a few wrong PINs, and only its security officer can unlock it. So a
// PIN that the token refused is not offered to it a second time, by this process or a later
// one, until its file is changed or touched.

// ErrPIN says that the token refused the PIN; it is not offered again until the PIN file changes.
var ErrPIN = errors.New("the token refused the PIN")

const maxPINLen = 4096 // octets; a longer file is not a PIN file

// PIN is a PIN and the state of the file that it was read from.
type PIN struct {
	Text string
	Mark string // inode, size and modification time; no part of the PIN
}

// ReadPIN reads the PIN again: it may have been changed while this process ran.
func (s Settings) ReadPIN() (PIN, error) {
	fail := func(err error) (PIN, error) {
		if errors.Is(err, fs.ErrPermission) {
			err = errors.Join(err, unreadable(s.PINFile, mayRead))
		}
		return PIN{}, fmt.Errorf("reading the PIN file: %w", err)
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
		return PIN{}, fmt.Errorf("reading the PIN file %s: %d octets are too many for a PIN", s.PINFile, info.Size())
	}
	raw, err := io.ReadAll(io.LimitReader(file, maxPINLen))
	if err != nil {
		return fail(err)
	}
	pin := strings.TrimRight(string(raw), " \t\r\n")
	if pin == "" {
		return PIN{}, fmt.Errorf("reading the PIN file %s: it is empty", s.PINFile) // not offered: an empty PIN counts as a wrong one
	}
	var inode uint64
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = stat.Ino
	}
	return PIN{pin, fmt.Sprintf("%d-%d-%d", inode, info.Size(), info.ModTime().UnixNano())}, nil
}

// PINFileOpen says whether users other than the owner may read the PIN file.
func (s Settings) PINFileOpen() (mode fs.FileMode, open bool) {
	info, err := os.Stat(s.PINFile)
	if err != nil {
		return 0, false
	}
	return info.Mode().Perm(), info.Mode().Perm()&0o077 != 0
}

// notes is the prefix of the names in StateDir that are about one token. The name of a note is
// its whole content, so every user who may list the folder can read it.
func (s Settings) notes(serial string) string {
	return filepath.Join(s.StateDir, "refused-pin-"+url.PathEscape(serial)+"-")
}

// RefusedBefore returns ErrPIN if the token has refused the PIN in the file's current state.
func (s Settings) RefusedBefore(serial, mark string) error {
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

func (s Settings) forgetful(err error) error {
	return fmt.Errorf("remembering in %s a PIN that the token may refuse: no PIN is offered without, since a token locks after a few wrong ones: let state_dir be a folder that this user may write, with room: %w", s.StateDir, err)
}

// NoteOffer writes the note of a refusal before the login: afterwards the disk may be full. The
// name is unique to this process; "" without StateDir.
func (s Settings) NoteOffer(serial string) (string, error) {
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
	_, err = fmt.Fprintf(file, "Token %s (serial %s) refused the PIN in %s.\n", s.Name(), serial, s.PINFile)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", errors.Join(s.forgetful(err), os.Remove(name))
	}
	return name, nil
}

// NoteOutcome makes the note permanent if the PIN was refused. Otherwise it removes the note
// and, when the PIN was accepted, all earlier notes of this token: the files they name have
// been replaced.
func (s Settings) NoteOutcome(pending, serial, mark string, login error) error {
	if pending == "" {
		return nil
	}
	if !errors.Is(login, ErrPIN) {
		if login == nil {
			old, _ := filepath.Glob(globbed(s.notes(serial)) + "*") // the pattern is valid
			for _, note := range old {
				_ = os.Remove(note) // a remaining note blocks only a file that no longer exists
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

// globbed escapes the characters that filepath.Glob would read as a pattern.
func globbed(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}
