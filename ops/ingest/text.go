package ingest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"ocspfleet/db"
)

// Programs of Windows begin text with a mark of its encoding.
const (
	markUTF8  = "\xef\xbb\xbf"
	markUTF16 = "\xff\xfe"
	markBig16 = "\xfe\xff"
)

var errUTF16 = errors.New("it is UTF-16: want UTF-8 (PowerShell: Out-File -Encoding utf8)")

// unmarked passes over the mark of UTF-8.
func unmarked(in io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(in, maxLine)
	start, _ := b.Peek(len(markUTF8)) // an error comes again at the next reading
	switch {
	case string(start) == markUTF8:
		_, err := b.Discard(len(markUTF8))
		return b, err
	case strings.HasPrefix(string(start), markUTF16), strings.HasPrefix(string(start), markBig16):
		return nil, errUTF16
	}
	return b, nil
}

// hexSerials are the forms whose serials are hexadecimal digits.
var hexSerials = map[string]bool{"openssl-index": true, "csv": true, "ndjson": true, "cacert": true}

// decimals looks for serials that were written in decimal digits and read as hexadecimal
// ones: 20 random serials without any digit from a to f are never met.
type decimals struct {
	rows   int64
	digits bool // one from a to f was there
}

const manyRows = 20

func (d *decimals) see(serial db.Serial) {
	d.rows++
	d.digits = d.digits || strings.ContainsAny(serial.String(), "abcdef")
}

func (d *decimals) warning() []string {
	if d.rows < manyRows || d.digits {
		return nil
	}
	return []string{fmt.Sprintf("none of the %d serials has a digit from a to f: are they decimal? They were read as hexadecimal", d.rows)}
}
