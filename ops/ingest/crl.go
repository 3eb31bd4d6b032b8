package ingest

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/ops/ingest/syntax"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// maxCRL bounds the CRLs of one call in octets: they are kept whole, since a signature covers a
// whole CRL. 64 MiB are about 1.7 million revocations.
const maxCRL = 64 << 20

// CRL is the header of a revocation list.
type CRL struct {
	Name       string   // distinguishes the CRLs of one call; empty: it is the only one
	Number     *big.Int // nil: none
	ThisUpdate time.Time
	NextUpdate time.Time // zero: none
	Shard      string    // the part of the issuer's list that it is; empty: all
	Newest     bool      // of its shard
}

// crlForm is the issuer's own revocation lists (RFC 5280 section 5). Several lists, and several
// parts of one list, are read as one.
type crlForm struct {
	issuer *x509.Certificate
	now    time.Time
	last   map[string]*big.Int
	file   *File
	lists  []list
	octets int
}

// list is a CRL and the content of its revokedCertificates.
type list struct {
	CRL
	entries cryptobyte.String
}

func newCRLForm(o *Options, f *File) (form, error) {
	issuer, err := issuerCertificate(o.Issuer)
	return &crlForm{issuer: issuer, now: o.Now, last: o.LastCRLs, file: f}, err
}

// issuerCertificate reads the issuer's certificate at the master.
func issuerCertificate(issuer db.Issuer) (*x509.Certificate, error) {
	certificate, err := x509.ParseCertificate(issuer.Certificate)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate of issuer %q: %w", issuer.Name, err)
	}
	return certificate, nil
}

// read takes all CRLs of one file: DER, or PEM blocks.
func (f *crlForm) read(in io.Reader, _ func(entry) error) error {
	b := bufio.NewReaderSize(in, syntax.MaxLine)
	if start, _ := b.Peek(1); len(start) == 1 && start[0] == 0x30 {
		return f.take(b)
	}
	s := syntax.NewScanner(b)
	for number := 1; ; number++ {
		err := f.take(base64.NewDecoder(base64.StdEncoding, syntax.NewPEMBody(s, "X509 CRL")))
		if number > 1 && errors.Is(err, syntax.ErrNoPEM) {
			return nil
		}
		if err != nil && number > 1 {
			return fmt.Errorf("CRL %d: %w", number, err)
		}
		if err != nil {
			return err
		}
	}
}

// take opens one CRL.
func (f *crlForm) take(in io.Reader) error {
	var b bytes.Buffer
	b.Grow(int(min(f.file.size, maxCRL)) + bytes.MinRead)
	n, err := b.ReadFrom(io.LimitReader(in, maxCRL+1))
	if err != nil {
		return err
	}
	if f.octets += int(n); f.octets > maxCRL {
		return fmt.Errorf("it has over %d MiB: want at most that", maxCRL>>20)
	}
	head, entries, err := openCRL(b.Bytes(), f.issuer)
	if err != nil {
		return err
	}
	if head.ThisUpdate.After(f.now.Add(db.MaxClockSkew)) {
		return fmt.Errorf("it was made in the future (%s)", head.ThisUpdate.UTC().Format(time.RFC3339))
	}
	shard, urls := shardOf(head)
	f.file.saw(urls...)
	f.lists = append(f.lists, list{entries: entries, CRL: CRL{
		Name: fmt.Sprintf("CRL %d of %s", len(f.lists)+1, f.file.reading), Shard: shard,
		Number: head.Number, ThisUpdate: head.ThisUpdate.UTC(), NextUpdate: head.NextUpdate.UTC(),
	}})
	return nil
}

// end sorts the CRLs by shard and number, and emits their entries.
func (f *crlForm) end(emit func(entry) error) error {
	slices.SortStableFunc(f.lists, func(a, b list) int {
		number := 0
		if a.Number != nil && b.Number != nil {
			number = a.Number.Cmp(b.Number)
		}
		return cmp.Or(cmp.Compare(a.Shard, b.Shard), number, a.ThisUpdate.Compare(b.ThisUpdate))
	})
	for i := range f.lists {
		l := &f.lists[i]
		l.Newest = i+1 == len(f.lists) || f.lists[i+1].Shard != l.Shard
		if len(f.lists) == 1 {
			l.Name = ""
		}
		if last := f.last[l.Shard]; l.Newest && last != nil && l.Number != nil && l.Number.Cmp(last) < 0 {
			return fmt.Errorf("its number is %d, and number %d was imported before: want the newest (--older-crl takes it)", l.Number, last)
		}
		f.file.CRLs = append(f.file.CRLs, l.CRL)
	}
	for _, l := range f.lists {
		if err := l.each(emit); err != nil {
			return err
		}
	}
	return nil
}

// each emits the entries of one CRL.
func (l list) each(emit func(entry) error) error {
	number := int64(0)
	for rest := l.entries; !rest.Empty(); {
		number++
		place := syntax.Place{Name: l.Name, Row: number}
		var one cryptobyte.String
		if !rest.ReadASN1(&one, asn1.SEQUENCE) {
			return emit(bad(place, "is no DER: want a revoked certificate"))
		}
		row, err := parseRevoked(one)
		e := entry{place: place, row: row}
		if err != nil {
			e.problem = err.Error()
			oddity := (*oddEntry)(nil)
			e.odd = errors.As(err, &oddity)
			e.taken = e.odd && oddity.taken
		} else if !l.Newest && !row.Status.Permanent() {
			e.skip = skipOldHold // a newer CRL says whether it is still on hold
		}
		if err := emit(e); err != nil {
			return err
		}
	}
	return nil
}
