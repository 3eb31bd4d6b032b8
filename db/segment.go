package db

import (
	"errors"
	"time"
)

// Snapshot is a stored snapshot, without its chunks.
type Snapshot struct {
	Epoch, Position int64
	Octets          int64 // of all chunks
	MadeAt          time.Time
	Note            []byte // the manifest, signed
}

// Segment is a sealed segment as it is stored: signed, immutable.
type Segment struct {
	Epoch, Number    int64
	First, Last      int64    // positions
	Hash             [32]byte // SHA-256 of Body
	Note             []byte   // the sealing checkpoint, signed
	NoteHash         [32]byte // SHA-256 of the note's text
	SnapshotRequired bool     // its changes are too many to be in Body
	Body             []byte   // nil if only the rest was read
}

// FeedNote is the newest signed checkpoint as it is stored.
type FeedNote struct {
	Epoch, Number, Position int64
	AsOf                    time.Time
	Note                    []byte
}

// ErrNotFound says that there is no such segment, checkpoint or snapshot here: not yet, or not any
// more.
var ErrNotFound = errors.New("it is not here")
