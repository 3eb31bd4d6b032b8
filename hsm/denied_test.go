package hsm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A token that root made, a user who is not in group softhsm: to SoftHSM it is no token.
func TestFileOfAnotherUserIsNamedWithOwnerAndFix(t *testing.T) {
	alone(t, "denied", withoutOverride)
}

// deniedFiles takes the right to read from one thing after another, and gives it back.
func (o *owner) deniedFiles() error {
	objects, err := filepath.Glob(filepath.Join(o.soft.Tokens(), "*", "*.object"))
	if err != nil || len(objects) < 3 {
		return fmt.Errorf("%v, %w", objects, err)
	}
	folder := filepath.Dir(objects[0])
	for _, path := range []string{o.soft.Conf, o.soft.Tokens(), folder, filepath.Join(folder, "token.object"), o.soft.PINFile} {
		if err := o.token.Close(); err != nil {
			return err
		}
		before, err := os.Stat(path)
		if err != nil {
			return err
		}
		if err := os.Chmod(path, 0); err != nil {
			return err
		}
		if err := o.open(); err == nil || !named(err, path) {
			return fmt.Errorf("without %s: %w", path, errors.Join(err, errors.New("is not named with owner and fix")))
		}
		if err := errors.Join(os.Chmod(path, before.Mode()), o.open()); err != nil {
			return err
		}
	}
	// A key that another user made in our token.
	for _, path := range objects {
		if filepath.Base(path) != "token.object" {
			if err := os.Chmod(path, 0); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(o.token.Close(), o.open()); err != nil {
		return err
	}
	if _, err := o.token.Signer(o.key.Public()); !errors.Is(err, ErrNoKey) || !named(err, ".object") {
		return fmt.Errorf("a key of another user: %w", err)
	}
	if odd, err := o.token.Oddities(); err != nil || len(odd) != 1 || !named(errors.New(odd[0]), ".object") {
		return fmt.Errorf("a key of another user: %v, %w", odd, err)
	}
	if err := o.modes(0o700, 0o600); err != nil {
		return err
	}
	o.keys = 1
	return errors.Join(o.token.Close(), o.starts())
}

func named(err error, path string) bool {
	text := err.Error()
	return strings.Contains(text, path+" belongs to ") && strings.Contains(text, "may not read it: chmod -R u+rwX ")
}
