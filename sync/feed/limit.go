package feed

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Bounds for what is sealed, and for what is read from any source.
const (
	// MaxEntries bounds the changes in one segment; a transaction or a backlog with more is
	// sealed as "snapshot required".
	MaxEntries = 1 << 18
	// MaxSegment bounds a segment's DER: 2^18 certificates take 8 MB, the rest is
	// room for rows with certificates in them.
	MaxSegment = 32 << 20
	// MaxChunk bounds the DER of a snapshot's chunk.
	MaxChunk = 4 << 20
	// chunkTarget is the size at which a chunk ends: 1 M certificates make 30.
	chunkTarget = 1 << 20
	// MaxChunks bounds a snapshot: 4,096 chunks hold 140 M certificates.
	MaxChunks = 4096
	// MaxRow bounds one row's canonical bytes.
	MaxRow = 1 << 20
	// MaxNote bounds a checkpoint or key set; a snapshot's manifest has its own.
	MaxNote = 8 << 10
	// MaxManifest bounds a snapshot's note: 70 octets a chunk.
	MaxManifest = MaxNote + 80*MaxChunks
	// MaxSealed bounds a sealed segment on the wire. gzip is used only if it makes the body
	// shorter, so a body is never longer than its DER.
	MaxSealed = MaxSegment + MaxNote + 16
)

// Form is the newest form of the notes that this program reads: 2 has key sets with keys for
// corrections and with retired keys. A site sends it in each request.
const Form = 2

const UserAgent = "ocspfleet/"

// formOf returns the form in a site's User-Agent; 0: none.
func FormOf(agent string) int {
	number, ours := strings.CutPrefix(agent, UserAgent)
	form, err := strconv.ParseUint(number, 10, 15)
	if !ours || err != nil {
		return 0
	}
	return int(form)
}

// ErrForm says that data has the wrong form, with any sender or signature.
var ErrForm = errors.New("it is not of the form")

// formError is an ErrForm that names the kind of data.
type formError string

func (e formError) Error() string { return string(e) }

// Is makes it match ErrForm.
func (e formError) Is(target error) bool { return target == ErrForm }

var errTrailing = errors.New("octets follow the end")

// pack compresses der if that makes it shorter. The first octet distinguishes both forms: a
// SEQUENCE begins with 30, gzip with 1f.
func pack(der []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.DefaultCompression)
	if err == nil {
		_, err = w.Write(der)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("compressing: %w", err)
	}
	if out.Len() >= len(der) {
		return der, nil
	}
	return out.Bytes(), nil
}

// unpack undoes pack; the result has at most limit octets.
func unpack(body []byte, limit int) ([]byte, error) {
	if len(body) == 0 || body[0] != 0x1f {
		if len(body) > limit {
			return nil, fmt.Errorf("%d octets are more than %d", len(body), limit)
		}
		return body, nil
	}
	in := bytes.NewReader(body)
	r, err := gzip.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("decompressing: %w", err)
	}
	r.Multistream(false)
	der, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("decompressing: %w", err)
	case len(der) > limit:
		return nil, fmt.Errorf("decompressing: more than %d octets", limit)
	case in.Len() > 0:
		return nil, fmt.Errorf("decompressing: %w", errTrailing)
	}
	return der, nil
}
