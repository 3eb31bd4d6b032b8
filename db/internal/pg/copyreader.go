package pg

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
)

// CopySignature begins every COPY BINARY stream (PostgreSQL manual, COPY, Binary Format).
var CopySignature = []byte("PGCOPY\n\xff\r\n\x00")

// maxCopyField bounds a field where the reader sets no limit: our longest row of
// certificates has 44 octets.
const maxCopyField = 1 << 20

// CopyReader is the io.Writer that COPY TO writes to: it reads rows of two
// fields, neither null, as they come. A Write may hold a part of a row.
type CopyReader struct {
	Row    func(fields [2][]byte) error // the fields are valid during the call
	Limit  uint32                       // of a field, in octets; 0: maxCopyField
	rest   []byte                       // the beginning of a row whose end has not come yet
	header bool                         // the header was read
	done   bool                         // the trailer was read
}

func (r *CopyReader) Write(p []byte) (int, error) {
	data := p
	if len(r.rest) > 0 {
		r.rest = append(r.rest, p...)
		data = r.rest
	}
	left, err := r.read(data)
	if err != nil {
		return 0, err
	}
	// left may overlap rest: append copies like memmove.
	r.rest = append(r.rest[:0], left...)
	return len(p), nil
}

// read takes whole rows from data and returns what is left.
func (r *CopyReader) read(data []byte) ([]byte, error) {
	if !r.header {
		// Signature, flags, length of the extension, which is empty today.
		n := len(CopySignature)
		if len(data) < n+8 {
			return data, nil
		}
		if !bytes.Equal(data[:n], CopySignature) || binary.BigEndian.Uint64(data[n:]) != 0 {
			return nil, errors.New("the copy begins with an unknown header")
		}
		data, r.header = data[n+8:], true
	}
	for len(data) >= 2 {
		if r.done {
			return nil, errors.New("the copy goes on after its end")
		}
		switch n := int16(binary.BigEndian.Uint16(data)); n {
		case -1:
			data, r.done = data[2:], true
			continue
		case 2:
		default:
			return nil, fmt.Errorf("the copy has a row of %d fields, want 2", n)
		}
		var fields [2][]byte
		rest := data[2:]
		for i := range fields {
			if len(rest) < 4 {
				return data, nil
			}
			n := binary.BigEndian.Uint32(rest)
			if n > cmp.Or(r.Limit, maxCopyField) { // null is 0xffffffff
				return nil, fmt.Errorf("the copy has a field of %d octets", int32(n))
			}
			if uint32(len(rest)-4) < n {
				return data, nil
			}
			fields[i], rest = rest[4:4+n], rest[4+n:]
		}
		if err := r.Row(fields); err != nil {
			return nil, err
		}
		data = rest
	}
	return data, nil
}

// End says whether the copy came whole.
func (r *CopyReader) End() error {
	if !r.done || len(r.rest) > 0 {
		return errors.New("the copy is cut short")
	}
	return nil
}

// CopyInt8 reads a bigint that is not negative.
func CopyInt8(field []byte) (uint64, error) {
	if len(field) != 8 || field[0] > 127 {
		return 0, fmt.Errorf("the copy has a number of %d octets, or a negative one", len(field))
	}
	return binary.BigEndian.Uint64(field), nil
}
