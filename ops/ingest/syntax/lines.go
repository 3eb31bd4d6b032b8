package syntax

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// MaxLine is the longest line read, in octets. A row with a serial of 20 octets and a subject
// name with every attribute at its upper bound is below 8 KiB.
const MaxLine = 64 << 10

// Faults of a line in any form.
const (
	problemLong = "is longer than 64 KiB"
	problemCut  = "is cut short: the file does not end with a line end"
	problemNUL  = "has a NUL octet"
)

// ErrCut says that a file ends too early.
var ErrCut = errors.New("it is cut short")

// Scanner reads lines of bounded length.
type Scanner struct {
	in   *bufio.Reader
	line int64 // number of the last line returned, from 1
}

// NewScanner reads lines from r.
func NewScanner(r io.Reader) *Scanner { return &Scanner{in: bufio.NewReaderSize(r, MaxLine)} }

// next returns a line without its line end, valid until the next call, or a problem; io.EOF
// after the last line. A last line without its line end is returned with the problem, for forms
// that accept it.
func (s *Scanner) next() (line []byte, problem string, err error) {
	line, err = s.in.ReadSlice('\n')
	if len(line) > 0 {
		s.line++
	}
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = s.in.ReadSlice('\n')
		}
		if errors.Is(err, io.EOF) {
			err = nil // returned by the next call
		}
		return nil, problemLong, err
	case errors.Is(err, io.EOF) && len(line) > 0:
		// openssl ignores a last line without its line end, and a file that was cut in the
		// middle looks like this.
		return line, problemCut, nil
	case err != nil:
		return nil, "", err
	}
	line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r"))
	if bytes.IndexByte(line, 0) >= 0 {
		return nil, problemNUL, nil
	}
	return line, "", nil
}

// EachLine calls do for each line.
func EachLine(in io.Reader, do func(line []byte, place Place, problem string) error) error {
	s := NewScanner(in)
	for {
		line, problem, err := s.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(line, Place{Line: s.line}, problem); err != nil {
			return err
		}
	}
}
