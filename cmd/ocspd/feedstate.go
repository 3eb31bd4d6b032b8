package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// keySetMark is the highest number of a key set that this site has seen, and its epoch, in
// memory and, with a path, in a file: an old set may name a key that was stolen since, and an
// attacker in the database could show it again after a restart. The file names the root; with a
// new root the mark starts again. For one goroutine.
type keySetMark struct {
	path string // empty: only in memory
	root string // verifier key
	kept int64
	// epoch is the epoch of the set: no later set may go back to an epoch that is over.
	epoch int64
}

// openMark reads the file; a missing file means no set.
func openMark(path, root string) (*keySetMark, error) {
	m := &keySetMark{path: path, root: root}
	if path == "" {
		return m, nil
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the highest key set seen: %w", err)
	}
	var of string
	var number, epoch int64
	if n, err := fmt.Sscanf(string(raw), "%s %d %d\n", &of, &number, &epoch); n != 3 || err != nil || number < 0 || epoch < 0 {
		return nil, fmt.Errorf("reading the highest key set seen: %s is not what ocspd wrote: compare ocspctl feed show with what the CA says, then remove the file", path)
	}
	if of == root {
		m.kept, m.epoch = number, epoch
	}
	return m, nil
}

// keep raises the mark. It is on disk before the set is used, so that a set once accepted is
// never forgotten.
func (m *keySetMark) keep(number, epoch int64) error {
	if m.path != "" {
		if err := m.write(number, epoch); err != nil {
			return fmt.Errorf("keeping that key set %d was seen: %w", number, err)
		}
	}
	m.kept, m.epoch = number, epoch
	return nil
}

// probe finds now, not at the next key set, that a folder cannot be written. It leaves no file:
// a check of the configuration may run as another user.
func (m *keySetMark) probe() error {
	if m.path == "" {
		return nil
	}
	file, err := os.CreateTemp(filepath.Dir(m.path), filepath.Base(m.path)+".*")
	if err != nil {
		return fmt.Errorf("trying to write beside the highest key set seen: %w", err)
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// write replaces the file whole: a crash leaves the old one or the new one.
func (m *keySetMark) write(number, epoch int64) error {
	file, err := os.CreateTemp(filepath.Dir(m.path), filepath.Base(m.path)+".*") // 0600
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(file, "%s %d %d\n", m.root, number, epoch)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), m.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	dir, err := os.Open(filepath.Dir(m.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
