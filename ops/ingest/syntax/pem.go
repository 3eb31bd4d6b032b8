package syntax

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
)

// ErrNoPEM says that there is no block of the wanted kind.
var ErrNoPEM = errors.New("it is neither DER nor PEM")

// PEMBody reads the base64 between the next BEGIN and END line of a kind (RFC 7468), as a
// stream.
type PEMBody struct {
	s    *Scanner
	kind string
	open bool
	rest []byte
}

// NewPEMBody reads the next block of this kind.
func NewPEMBody(s *Scanner, kind string) *PEMBody { return &PEMBody{s: s, kind: kind} }

func (p *PEMBody) Read(out []byte) (int, error) {
	for len(p.rest) == 0 {
		line, problem, err := p.s.next()
		switch {
		case problem != "" && problem != problemCut:
			return 0, fmt.Errorf("line %d %s", p.s.line, problem)
		case errors.Is(err, io.EOF) && !p.open:
			return 0, fmt.Errorf("%w of type %s", ErrNoPEM, p.kind)
		case errors.Is(err, io.EOF):
			return 0, ErrCut
		case err != nil:
			return 0, err
		}
		line = bytes.TrimSpace(line)
		switch {
		case !p.open:
			p.open = string(line) == "-----BEGIN "+p.kind+"-----"
		case string(line) == "-----END "+p.kind+"-----":
			return 0, io.EOF
		default:
			p.rest = line
		}
	}
	n := copy(out, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// EachPEM calls do with each block of a file, however many there are. Text between blocks is
// skipped, as openssl does. found says whether there was any block.
func EachPEM(in io.Reader, do func(kind string, der []byte, line int64, problem string) error) (found bool, err error) {
	s := NewScanner(in)
	for {
		line, _, err := s.next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return found, err
		}
		kind, ok := marker(line, "-----BEGIN ")
		if !ok {
			continue
		}
		found = true
		start := s.line
		text, problem, err := pemText(s, kind)
		if err != nil {
			return found, err
		}
		var der []byte
		if problem == "" {
			if der, err = base64.StdEncoding.DecodeString(string(text)); err != nil && kind == "CERTIFICATE" {
				problem = "holds a PEM block that is no base64"
			}
		}
		if err := do(kind, der, start, problem); err != nil {
			return found, err
		}
	}
}

// pemText reads up to the END line.
func pemText(s *Scanner, kind string) (text []byte, problem string, err error) {
	for {
		line, problem, err := s.next()
		if errors.Is(err, io.EOF) {
			return nil, "is cut short: a PEM block does not end", nil
		}
		if err != nil || problem != "" && problem != problemCut {
			return nil, problem, err
		}
		if end, ok := marker(line, "-----END "); ok {
			if end != kind {
				return nil, "holds a PEM block that ends as another", nil
			}
			return text, "", nil
		}
		if text = append(text, bytes.TrimSpace(line)...); len(text) > MaxLine {
			return nil, "holds a PEM block of over 64 KiB", nil
		}
	}
}

// marker returns the kind in a BEGIN or END line.
func marker(line []byte, begin string) (kind string, ok bool) {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte(begin))
	if !ok {
		return "", false
	}
	name, ok := bytes.CutSuffix(rest, []byte("-----"))
	return string(name), ok
}
