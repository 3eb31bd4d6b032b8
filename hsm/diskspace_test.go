package hsm

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"ocspfleet/hsm/tokenconf"
	"ocspfleet/integration/testkit/softhsm"
)

// Two numbers of linux/prctl.h and linux/capability.h that package syscall lacks.
const (
	prCapBSetRead, prCapBSetDrop = 23, 24
	capDACOverride               = 1
	capDACReadSearch             = 2
)

// H9: not one octet more can be written, or a few, in a process of its own. It is
// the kernel that refuses (RLIMIT_FSIZE: EFBIG instead of ENOSPC), so that no right
// to mount a small disk is needed. It signs on. SoftHSM itself would then empty its
// token at a login and tell of keys made that are in no file, so neither is asked of it.
func TestH9FullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts a disk for another process")
	}
	alone(t, "full", nil)
}

// H9: every file and folder of the token is read-only. Root may write all the
// same, so the other process runs without that right.
func TestH9ReadOnlyTokenFolder(t *testing.T) {
	alone(t, "read-only", withoutOverride)
}

// alone runs a story of this file in a process of its own on a fresh token.
func alone(t *testing.T, what string, start func(*exec.Cmd) error) {
	t.Helper()
	soft := newSoft(t)
	cmd := childOf(t, what, soft.Dir)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if start == nil {
		start = (*exec.Cmd).Start
	}
	if err := start(cmd); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	t.Logf("%s", out.String())
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// withoutOverride starts a process that permissions hold for, root's too: the
// right to pass over them is out of the bounding set of the thread that starts
// it (capabilities(7)), and that thread ends with its goroutine.
func withoutOverride(cmd *exec.Cmd) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		for _, right := range []uintptr{capDACOverride, capDACReadSearch} {
			held, _, code := syscall.RawSyscall(syscall.SYS_PRCTL, prCapBSetRead, right, 0)
			if code == 0 && held == 1 && os.Geteuid() == 0 {
				_, _, code = syscall.RawSyscall(syscall.SYS_PRCTL, prCapBSetDrop, right, 0)
			}
			if code != 0 {
				result <- fmt.Errorf("giving up capability %d: %w", right, code)
				return
			}
		}
		result <- cmd.Start()
	}()
	return <-result
}

// owner is what happens in the process of its own: a daemon with a token.
type owner struct {
	soft  *softhsm.SoftToken
	token *Token
	key   crypto.Signer
	keys  int // how many the token must show
}

// diskChild runs what on the token that softhsm.New made in dir.
func diskChild(what, dir string) error {
	soft, err := softhsm.Existing(dir, "site-a")
	if err != nil {
		return err
	}
	o := &owner{soft: soft}
	if err := o.open(); err != nil {
		return err
	}
	if o.key, err = o.token.GenerateKey(P256, "a"); err != nil {
		return err
	}
	before, err := objectFiles(soft)
	if err != nil {
		return err
	}
	switch what {
	case "full":
		err = o.fullDisk()
	case "read-only":
		err = o.readOnlyFolder()
	case "denied":
		err = o.deniedFiles()
	}
	if err != nil {
		return err
	}
	if _, err := o.token.GenerateKey(RSA2048, "c"); err != nil {
		return fmt.Errorf("when it can be written again: %w", err)
	}
	after, err := objectFiles(soft)
	fmt.Printf("%d files of objects before, %d after\n", before, after)
	return errors.Join(err, o.token.Close())
}

func (o *owner) open() (err error) {
	o.token, err = Open(context.Background(), configOf(o.soft))
	return err
}

// fullDisk leaves no room, then little, and then gives it back.
func (o *owner) fullDisk() error {
	var all syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &all); err != nil {
		return err
	}
	for _, limit := range []uint64{0, 8, 100, 700, 4096, tokenconf.SpaceNeeded - 1} {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: all.Max}); err != nil {
			return err
		}
		made, err := o.signsOn()
		if err == nil && made {
			err = errors.New("a key was made")
		}
		if err == nil {
			err = o.healsOnlyWithRoom(func() error { return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &all) })
		}
		if err != nil {
			return fmt.Errorf("with room for %d octets: %w", limit, err)
		}
	}
	return nil
}

// healsOnlyWithRoom loses every session, has a start refused, too, and makes room.
func (o *owner) healsOnlyWithRoom(makeRoom func() error) error {
	l, _, _ := o.token.state()
	o.token.lose(l, errors.New("every session lost"))
	if err := o.token.rebuild(); !errors.Is(err, tokenconf.ErrFull) {
		return fmt.Errorf("healing without room: %w", err)
	}
	if err := o.token.Health(); !errors.Is(err, tokenconf.ErrFull) || !strings.Contains(err.Error(), "make room in "+o.soft.Tokens()) {
		return fmt.Errorf("health without room: %w", err)
	}
	if err := o.token.Close(); err != nil {
		return err
	}
	if err := o.open(); !errors.Is(err, tokenconf.ErrFull) {
		return fmt.Errorf("a start without room: %w", err)
	}
	if err := makeRoom(); err != nil {
		return err
	}
	return o.starts()
}

// readOnlyFolder takes the right to write from every file and folder, and gives it back.
func (o *owner) readOnlyFolder() error {
	if err := o.modes(0o500, 0o400); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(o.soft.Tokens(), "probe"), nil, 0o600); !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("writing into the read-only folder: %v", err)
	}
	for range 3 {
		made, err := o.signsOn()
		if err != nil {
			return err
		}
		if made {
			return errors.New("a key was made in a read-only folder")
		}
		if err := errors.Join(o.token.Close(), o.starts()); err != nil {
			return err
		}
	}
	return o.modes(0o700, 0o600)
}

// modes sets those of the token's folders and files.
func (o *owner) modes(folder, file fs.FileMode) error {
	return filepath.WalkDir(o.soft.Tokens(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, folder)
		}
		return os.Chmod(path, file)
	})
}

// signsOn signs before and after a key was asked for. made says whether that was
// made; if not, nothing of it is found.
func (o *owner) signsOn() (made bool, err error) {
	if err := signOnce(o.key); err != nil {
		return false, fmt.Errorf("signing: %w", err)
	}
	_, refusal := o.token.GenerateKey(P256, "b")
	if refusal != nil && !strings.Contains(refusal.Error(), "make room in "+o.soft.Tokens()) && !strings.Contains(refusal.Error(), "cannot be written") {
		return false, fmt.Errorf("making a key: %w", refusal)
	}
	o.keys = 1
	if refusal == nil {
		o.keys = 2
	}
	return refusal == nil, o.isWell()
}

// starts is a daemon that starts.
func (o *owner) starts() (err error) {
	if err := o.open(); err != nil {
		return fmt.Errorf("a start: %w", err)
	}
	if o.key, err = o.token.Signer(o.key.Public()); err != nil {
		return fmt.Errorf("a start: %w", err)
	}
	return o.isWell()
}

func (o *owner) isWell() error {
	if err := errors.Join(signOnce(o.key), o.token.Health()); err != nil {
		return fmt.Errorf("signing: %w", err)
	}
	if keys, err := o.token.Keys(); err != nil || len(keys) != o.keys {
		return fmt.Errorf("%d keys, want %d: %w", len(keys), o.keys, err)
	}
	return nil
}

// objectFiles counts the files that SoftHSM keeps objects in.
func objectFiles(soft *softhsm.SoftToken) (int, error) {
	files, err := filepath.Glob(filepath.Join(soft.Tokens(), "*", "*.object"))
	return len(files), err
}
