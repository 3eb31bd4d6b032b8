package publish

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ocspfleet/db"
	"ocspfleet/db/publisherdb"
	"ocspfleet/sync/feed"
)

// ErrNotMine says that the master's newest segment was not signed by its sealer.
var ErrNotMine = errors.New("it was not signed by this ocspsyncd")

// memory is what the master signed last, known without the database: while the sealer runs, and in
// a file over a restart. So a program that writes the database cannot make the master sign two
// histories. For one goroutine.
type memory struct {
	path string // empty: the memory ends with this process
	note []byte // the checkpoint signed last; nil: none is known
	last *feed.Checkpoint
	mine bool // signed by this process: it knows exactly what it signed
	// trying is the hash of a seal that was sent to the database and not confirmed yet; nil: there
	// is none.
	trying  *feed.Hash
	pending bool // the file does not have note yet
}

// openMemory reads the file; a missing file means that the master has signed nothing yet. It finds
// a folder without write access before anything is signed.
func openMemory(path string) (*memory, error) {
	m := &memory{path: path}
	if path == "" {
		return m, nil
	}
	signed, err := os.ReadFile(path)
	if err == nil {
		m.note = signed
		if m.last, err = feed.ReadCheckpoint(signed); err != nil {
			err = fmt.Errorf("%s is not what ocspsyncd wrote: compare the feed's newest checkpoint (ocspctl feed show) with what a site has, then remove the file: %w", path, err)
		}
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		var file *os.File
		if file, err = os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*"); err == nil {
			err = errors.Join(file.Close(), os.Remove(file.Name()))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("looking at what was signed last (feed.state): %w", err)
	}
	return m, nil
}

// check compares the master's head and newest segment with what was signed last, before
// anything else is signed.
func (m *memory) check(head db.Head, last db.Segment, set *feed.KeySet) error {
	if m.pending {
		if err := m.write(); err != nil {
			return err
		}
	}
	mine := m.last
	if mine == nil || mine.Epoch < head.Epoch { // no signed statement is known in this epoch
		if last.Number == 0 || set.Bans(last.Note) {
			return nil
		}
		if _, err := set.OpenCheckpoint(last.Note); err != nil {
			return fmt.Errorf("segment %d, the newest at the master: %w: %w", last.Number, ErrNotMine, err)
		}
		return nil
	}
	switch {
	case mine.Epoch > head.Epoch, head.Position < mine.Position, head.AuditCount < mine.AuditCount:
		return fmt.Errorf("the head is at position %d of epoch %d with %d audit entries, signed is up to %d of %d with %d: this master lost changes that sites have; "+
			"begin a new epoch by a key set of the feed root", head.Position, head.Epoch, head.AuditCount, mine.Position, mine.Epoch, mine.AuditCount)
	case m.is(last):
		return nil
	case m.trying != nil && *m.trying == feed.Hash(last.NoteHash):
		return nil // the seal was stored
	case !m.mine && last.Number == mine.Number+1 && m.leadsTo(last, set):
		// The process before this one ended between the commit and the write of the file. The file
		// gets it first, so that it is never two seals behind.
		c, err := feed.ReadCheckpoint(last.Note)
		if err != nil {
			return err
		}
		m.note, m.last, m.pending = last.Note, c, true
		return m.write()
	case last.Number > mine.Number && set.Bans(last.Note):
		// A thief of the key stored it. No site accepts it any more, but its number is taken.
		return nil
	}
	return fmt.Errorf("segment %d, the newest at the master: %w, which signed up to %d; nothing is signed on top of it: "+
		"find out who writes as ocsp_publisher, or whether another ocspsyncd published meanwhile (then remove the file of feed.state): docs/feed-keys.md", last.Number, ErrNotMine, mine.Number)
}

// is says whether a segment is the one whose seal, or confirmation, was signed last.
func (m *memory) is(last db.Segment) bool {
	c := m.last
	return c.Number == last.Number && (c.Number == 0 || c.Segment == feed.Hash(last.Hash) && (c.Hash() == feed.Hash(last.NoteHash) || c.Previous == feed.Hash(last.NoteHash)))
}

// leadsTo says whether a segment, signed by a key of the set, follows what was signed last.
func (m *memory) leadsTo(last db.Segment, set *feed.KeySet) bool {
	c, err := set.OpenCheckpoint(last.Note)
	return err == nil && c.Number == last.Number && c.Segment == feed.Hash(last.Hash) && c.Hash() == feed.Hash(last.NoteHash) &&
		(c.Previous == m.last.Hash() || c.Previous == m.last.Previous || m.last.Number == 0)
}

// tries notes what will be stored.
func (m *memory) tries(d publisherdb.Sealed) {
	m.trying = nil
	if d.Segment != nil {
		m.trying = new(feed.Hash(d.Segment.NoteHash))
	}
}

// keep remembers what was stored. Nothing else is signed until the file has it.
func (m *memory) keep(signed []byte) error {
	c, err := feed.ReadCheckpoint(signed)
	if err != nil {
		return err
	}
	m.note, m.last, m.mine, m.trying, m.pending = signed, c, true, nil, true
	return m.write()
}

// write replaces the file as a whole: after a crash it is the old one or the new one.
func (m *memory) write() error {
	if m.path == "" {
		m.pending = false
		return nil
	}
	file, err := os.CreateTemp(filepath.Dir(m.path), filepath.Base(m.path)+".*") // 0600
	if err == nil {
		if _, err = file.Write(m.note); err == nil {
			err = file.Sync()
		}
		if err = errors.Join(err, file.Close()); err == nil {
			err = os.Rename(file.Name(), m.path)
		}
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}
	if err == nil {
		var dir *os.File
		if dir, err = os.Open(filepath.Dir(m.path)); err == nil {
			err = errors.Join(dir.Sync(), dir.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("keeping what was signed last (feed.state): %w", err)
	}
	m.pending = false
	return nil
}
