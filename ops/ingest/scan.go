package ingest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
)

// maxLine is the longest line read, in octets. A row of 20-octet serial and a
// subject name of every attribute's upper bound is below 8 KiB.
const maxLine = 64 << 10

// scanner reads lines of bounded length and sums up what it has read.
type scanner struct {
	in   *bufio.Reader
	sum  hash.Hash // of all octets of the lines returned so far
	line int64     // number of the last line returned, from 1
}

func newScanner(r io.Reader) *scanner {
	return &scanner{in: bufio.NewReaderSize(r, maxLine), sum: sha256.New()}
}

// next returns a line without its line end, valid until the next call, or what
// is wrong with it; io.EOF after the last.
func (s *scanner) next() (line []byte, problem string, err error) {
	line, err = s.in.ReadSlice('\n')
	s.sum.Write(line)
	if len(line) > 0 {
		s.line++
	}
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = s.in.ReadSlice('\n')
			s.sum.Write(line)
		}
		if errors.Is(err, io.EOF) {
			err = nil // told at the next call
		}
		return nil, "is longer than 64 KiB", err
	case errors.Is(err, io.EOF) && len(line) > 0:
		// openssl passes over a last line without its end, and a file that was
		// cut in its middle looks like this.
		return nil, "is cut short: the file does not end with a line end", nil
	case err != nil:
		return nil, "", err
	}
	line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r"))
	if bytes.IndexByte(line, 0) >= 0 {
		return nil, "has a NUL octet", nil
	}
	return line, "", nil
}

// total returns the sum of all lines so far.
func (s *scanner) total() [sha256.Size]byte {
	var sum [sha256.Size]byte
	s.sum.Sum(sum[:0])
	return sum
}

// scan calls do for each line that says something: empty ones and openssl's
// comments (#) are passed over.
func (s *scanner) scan(ctx context.Context, do func(line []byte, problem string) error) error {
	for {
		if s.line%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		line, problem, err := s.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if problem == "" && (len(line) == 0 || line[0] == '#') {
			continue
		}
		if err := do(line, problem); err != nil {
			return err
		}
	}
}
