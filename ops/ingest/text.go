package ingest

import (
	"fmt"
	"strings"

	"ocspfleet/db"
)

// hexSerials are the forms whose serials are hexadecimal digits.
var hexSerials = map[string]bool{"openssl-index": true, "csv": true, "ndjson": true, "cacert": true}

// decimals detects decimal serials that were read as hexadecimal ones: 20 random serials never
// lack all digits from a to f.
type decimals struct {
	rows   int64
	digits bool // a digit from a to f was seen
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
