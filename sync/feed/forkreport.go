package feed

import (
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// ForkReport is a site's report to the master: two statements that contradict each other, with
// their signatures.
type ForkReport struct {
	Why          string
	Ours, Theirs []byte
}

// MaxReport bounds a report.
const MaxReport = 2*MaxNote + 512

var errReport = formError("the report of a fork is not of the form")

// Marshal writes SEQUENCE { why UTF8String, ours UTF8String, theirs UTF8String }.
func (r ForkReport) Marshal() ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, part := range [][]byte{[]byte(r.Why), r.Ours, r.Theirs} {
			b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes(part) })
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("writing the report of a fork: %w", err)
	}
	return der, nil
}

// ParseForkReport reads what Marshal wrote.
func ParseForkReport(der []byte) (ForkReport, error) {
	in, body := cryptobyte.String(der), cryptobyte.String(nil)
	var why, ours, theirs cryptobyte.String
	if !in.ReadASN1(&body, asn1.SEQUENCE) || !in.Empty() || !body.ReadASN1(&why, asn1.UTF8String) || !body.ReadASN1(&ours, asn1.UTF8String) ||
		!body.ReadASN1(&theirs, asn1.UTF8String) || !body.Empty() || len(why) > 200 || len(ours) > MaxNote || len(theirs) > MaxNote {
		return ForkReport{}, errReport
	}
	return ForkReport{string(why), ours, theirs}, nil
}
