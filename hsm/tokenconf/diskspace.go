package tokenconf

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// SpaceNeeded is far more than the 320 octets of SoftHSM's token.object, since
// others write to the same disk.
const SpaceNeeded = 64 << 10 // octets

// ErrFull says that the disk has no room for SoftHSM's writes at a login.
var ErrFull = errors.New("the disk of the token is full")

// DiskSpace checks whether SoftHSM can write, before it must. On a full disk SoftHSM 2.6 loses
// keys: C_Login empties the file token.object and writes it again, to record that the PIN was
// right, and without that file no key can ever be decrypted again; and C_GenerateKeyPair may
// report success for a pair that is in no file. A folder that this user may not write is safe:
// it cannot be emptied, and making a key fails.
func (s Settings) DiskSpace() error {
	folder, err := s.probe()
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			return fmt.Errorf("%w: SoftHSM rewrites a token at each login and would lose its keys: make room in %s: %w", ErrFull, folder, err)
		}
	}
	return nil // read-only or missing: SoftHSM will report it
}

// Writable says whether SoftHSM can store a key: there is space, and this user may write.
func (s Settings) Writable() error {
	folder, err := s.probe()
	if folder != "" && errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("the folder of the token cannot be written: make the key as the user that %s belongs to, and see that its disk is not mounted read-only: %w", folder, err)
	}
	return s.DiskSpace()
}

// probe writes a file beside the tokens and removes it.
func (s Settings) probe() (folder string, err error) {
	folder, err = tokenFolder(s.configuration())
	if err != nil || folder == "" {
		return "", err // another library, or an unknown place
	}
	file, err := os.CreateTemp(folder, ".space-*")
	if err != nil {
		return folder, err
	}
	_, err = file.Write(make([]byte, SpaceNeeded))
	return folder, errors.Join(err, file.Close(), os.Remove(file.Name()))
}

// configuration returns the file that SoftHSM reads, "" for another library.
func (s Settings) configuration() string {
	switch {
	case s.SoftHSM2Conf != "":
		return s.SoftHSM2Conf
	case !strings.Contains(filepath.Base(s.Module), "softhsm"):
		return ""
	case os.Getenv("SOFTHSM2_CONF") != "":
		return os.Getenv("SOFTHSM2_CONF")
	}
	return "/etc/softhsm/softhsm2.conf" // Debian's
}

// tokenFolder reads directories.tokendir of a softhsm2.conf; "" if it is not set.
func tokenFolder(conf string) (string, error) {
	if conf == "" {
		return "", nil
	}
	f, err := os.Open(conf)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // Environment reports it better
	}
	if err != nil {
		return "", fmt.Errorf("reading the SoftHSM configuration: %w", err)
	}
	defer func() { _ = f.Close() }()
	folder := ""
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "=")
		if strings.TrimSpace(name) == "directories.tokendir" {
			folder = strings.TrimSpace(value)
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("reading the SoftHSM configuration: %w", err)
	}
	return folder, nil
}
