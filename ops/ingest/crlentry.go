package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/ingest/syntax"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Entry extensions (RFC 5280 section 5.3).
var (
	oidReason     = []byte{0x55, 0x1d, 21}
	oidInvalidity = []byte{0x55, 0x1d, 24}
	oidCertIssuer = []byte{0x55, 0x1d, 29}
)

const removeFromCRL = 8

// oddEntry describes a fault of one entry of a CRL; the other entries are still valid. taken:
// the entry is still a revocation, without its reason.
type oddEntry struct {
	text  string
	taken bool
}

func (e *oddEntry) Error() string { return e.text }

func odd(format string, args ...any) error { return &oddEntry{text: fmt.Sprintf(format, args...)} }

// parseRevoked reads one revoked certificate (RFC 5280 section 5.1.2.6). An error other than
// oddEntry is about the whole CRL.
func parseRevoked(one cryptobyte.String) (masterdb.Row, error) {
	row := masterdb.Row{NoEnd: true, Status: db.Status{Revoked: true, Reason: db.ReasonNone}}
	var serial cryptobyte.String
	if !one.ReadASN1(&serial, asn1.INTEGER) || len(serial) == 0 {
		return row, odd("is no DER: want a serial")
	}
	if len(serial) > 1 && (serial[0] == 0 && serial[1] < 0x80 || serial[0] == 0xff && serial[1] >= 0x80) {
		return row, odd("serial %s: is not in its shortest form (X.690 section 8.3.2)", syntax.Short(fmt.Sprintf("%x", []byte(serial))))
	}
	row.Serial = db.Serial(serial)
	if err := readTime(&one, &row.Status.RevokedAt); err != nil {
		return row, err
	}
	if one.Empty() {
		return row, nil
	}
	var extensions cryptobyte.String
	if !one.ReadASN1(&extensions, asn1.SEQUENCE) || !one.Empty() {
		return row, odd("is no DER: want extensions and nothing after them")
	}
	var oddity error // a later extension may be worse
	for !extensions.Empty() {
		err := readEntryExtension(&extensions, &row.Status.Reason)
		if one := (*oddEntry)(nil); errors.As(err, &one) && one.taken {
			oddity, err = err, nil
		}
		if err != nil {
			return row, err
		}
	}
	return row, oddity
}

// readTime reads a Time: UTCTime, or GeneralizedTime from 2050 on.
func readTime(in *cryptobyte.String, out *time.Time) error {
	ok := false
	if in.PeekASN1Tag(asn1.UTCTime) {
		ok = in.ReadASN1UTCTime(out)
	} else {
		ok = in.ReadASN1GeneralizedTime(out)
	}
	if !ok {
		return odd("is no DER: want a revocation time")
	}
	*out = out.UTC()
	return nil
}

func readEntryExtension(in *cryptobyte.String, reason *db.Reason) error {
	var extension, oid, value cryptobyte.String
	var critical bool
	if !in.ReadASN1(&extension, asn1.SEQUENCE) || !extension.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
		extension.PeekASN1Tag(asn1.BOOLEAN) && !extension.ReadASN1Boolean(&critical) ||
		!extension.ReadASN1(&value, asn1.OCTET_STRING) || !extension.Empty() {
		return odd("is no DER: want an extension")
	}
	switch {
	case bytes.Equal(oid, oidReason):
		var code int
		if !value.ReadASN1Enum(&code) || !value.Empty() {
			return &oddEntry{"has a reason that is no ENUMERATED", true}
		}
		named, err := parseCode(fmt.Sprint(code))
		if err != nil {
			return &oddEntry{err.Error(), code != removeFromCRL}
		}
		*reason = named
	case bytes.Equal(oid, oidCertIssuer):
		return errors.New("names its issuer: the CRL is an indirect one (RFC 5280 section 5.3.3)")
	case critical && !bytes.Equal(oid, oidInvalidity):
		return fmt.Errorf("has a critical extension (%x) that this program does not know (RFC 5280 section 5.3)", []byte(oid))
	}
	return nil
}
