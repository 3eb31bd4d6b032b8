package ingest

import (
	"fmt"
	"strings"

	"ocspfleet/db"
)

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
