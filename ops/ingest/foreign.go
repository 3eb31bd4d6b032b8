package ingest

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // what EJBCA names certificates by
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/ingest/syntax"
)

// cfsslForm is the table certificates of CFSSL's certdb as CSV.
type cfsslForm struct {
	key    []byte // the issuer's subjectKeyIdentifier
	issuer *x509.Certificate
	zone   *time.Location
	file   *File
	places []syntax.Place  // of rows without a key
	labels map[string]bool // ca_label of those rows
	named  bool            // another row has a key
}

func newCFSSLForm(o *Options, f *File) (form, error) {
	issuer, err := issuerCertificate(o.Issuer)
	if err != nil {
		return nil, err
	}
	key := issuer.SubjectKeyId
	if len(key) == 0 {
		sum, err := db.KeyID(issuer.RawSubjectPublicKeyInfo)
		if err != nil {
			return nil, fmt.Errorf("issuer %q: %w", o.Issuer.Name, err)
		}
		key = sum[:]
	}
	return &cfsslForm{key: key, issuer: issuer, zone: o.Location, file: f, labels: map[string]bool{}}, nil
}

func (f *cfsslForm) read(in io.Reader, emit func(entry) error) error {
	taken := func(e entry) error {
		if e.unsure {
			f.places = append(f.places, e.place)
		}
		return emit(e)
	}
	return eachRow(in, taken, []string{"serial_number", "authority_key_identifier", "status", "reason", "expiry", "revoked_at"}, f.entry)
}

// end checks the rows whose key is empty, since their CA's certificate has no
// subjectKeyIdentifier: they belong to this issuer if the file can belong to no other.
func (f *cfsslForm) end(emit func(entry) error) error {
	if !f.named && len(f.labels) < 2 {
		return nil
	}
	for _, place := range f.places {
		if err := emit(bad(place, "authority_key_identifier is empty, and the file has rows of several CAs: export this CA's alone (by ca_label), or with the column pem")); err != nil {
			return err
		}
	}
	return nil
}

func (f *cfsslForm) entry(r syntax.Record) entry {
	text := r.Get("authority_key_identifier")
	key, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil {
		return bad(syntax.Place{}, "authority_key_identifier %s: want hexadecimal digits", syntax.Quote([]byte(text)))
	}
	f.named = f.named || len(key) > 0
	if len(key) > 0 && !bytes.Equal(key, f.key) {
		return entry{skip: skipOtherIssuer}
	}
	e := f.row(r)
	if len(key) == 0 && e.problem == "" && e.skip == "" && r.Get("pem") == "" {
		e.unsure = true
		f.labels[r.Get("ca_label")] = true
	}
	return e
}

func (f *cfsslForm) row(r syntax.Record) entry {
	var err error
	row := masterdb.Row{Status: db.Status{Reason: db.ReasonNone}}
	if row.Serial, err = parseDecimal(r.Get("serial_number")); err != nil {
		return entry{problem: err.Error()}
	}
	if row.Status.NotAfter, err = parseStamp(r.Get("expiry"), f.zone); err != nil {
		return entry{problem: "expiry " + err.Error()}
	}
	switch status := r.Get("status"); status {
	case "good":
	case "revoked":
		row.Status.Revoked = true
		if row.Status.RevokedAt, err = parseStamp(r.Get("revoked_at"), f.zone); err != nil {
			return entry{problem: "revoked_at " + err.Error()}
		}
		if row.Status.Reason, err = parseCode(r.Get("reason")); err != nil {
			return entry{problem: err.Error()}
		}
	default:
		return bad(syntax.Place{}, "status %s: want good or revoked", syntax.Quote([]byte(status)))
	}
	return f.prove(r.Get("pem"), row, r.Get("authority_key_identifier") == "")
}

// prove compares a row with the certificate in it, if there is one. alone: no other field shows
// the issuer.
func (f *cfsslForm) prove(text string, row masterdb.Row, alone bool) entry {
	block, _ := pem.Decode([]byte(text))
	if block == nil && alone && text != "" {
		return bad(syntax.Place{}, "pem is no PEM, and authority_key_identifier is empty")
	}
	if block == nil {
		return entry{row: row}
	}
	proof := certificateForm{f.issuer, f.file}.judge(block.Bytes, syntax.Place{})
	switch {
	case proof.problem != "":
		return bad(syntax.Place{}, "pem %s", proof.problem)
	case proof.skip != "" && alone:
		return entry{skip: proof.skip}
	case proof.skip != "":
		return bad(syntax.Place{}, "pem is %s certificate", proof.skip)
	case !bytes.Equal(proof.row.Serial, row.Serial):
		return bad(syntax.Place{}, "pem has the serial %s, not %s", proof.row.Serial, row.Serial)
	case !proof.row.Status.NotAfter.Equal(row.Status.NotAfter):
		return bad(syntax.Place{}, "pem ends at %s, not at %s: is the time zone right (--timezone)?",
			proof.row.Status.NotAfter.Format(time.RFC3339), row.Status.NotAfter.Format(time.RFC3339))
	}
	return entry{row: row}
}

// ejbcaForm is EJBCA's table CertificateData or NoConflictCertificateData as CSV. The
// second has a row for each change of a certificate: the newest updateTime counts.
type ejbcaForm struct {
	issuer []string // SHA-1 of certificates of the issuer's key, lower-case hex
	serial func(string) (db.Serial, error)
	others map[string]bool // fingerprints of other issuers in the file
}

func newEJBCAForm(o *Options, _ *File) (form, error) {
	f := ejbcaForm{
		issuer: append([]string{fmt.Sprintf("%x", sha1.Sum(o.Issuer.Certificate))}, o.Fingerprints...),
		serial: parseDecimal, others: map[string]bool{},
	}
	switch o.SerialBase {
	case 0, 10:
	case 16:
		f.serial = parseSerial
	default:
		return nil, fmt.Errorf("serials of base %d: want 10 or 16", o.SerialBase)
	}
	return f, nil
}

func (f ejbcaForm) read(in io.Reader, emit func(entry) error) error {
	return eachRow(in, emit, []string{"serialNumber", "status", "expireDate", "revocationDate", "revocationReason"}, f.entry)
}

// other names the issuer of a skipped row: it may be an earlier certificate of the same key.
func (f ejbcaForm) other(fingerprint string) string {
	if len(f.others) == firstFew && !f.others[fingerprint] || len(fingerprint) != 2*sha1.Size {
		return skipOtherIssuer
	}
	f.others[fingerprint] = true
	return skipOtherIssuer + " (cAFingerprint " + fingerprint + ")"
}

func (f ejbcaForm) entry(r syntax.Record) entry {
	if issuer := strings.ToLower(r.Get("cafingerprint")); issuer != "" && !slices.Contains(f.issuer, issuer) {
		return entry{skip: f.other(issuer)}
	}
	row := masterdb.Row{Status: db.Status{Reason: db.ReasonNone}}
	var err error
	if updated := r.Get("updatetime"); updated != "" {
		if row.Version, err = strconv.ParseInt(updated, 10, 64); err != nil {
			return bad(syntax.Place{}, "updateTime %s: want milliseconds since 1970", syntax.Quote([]byte(updated)))
		}
	}
	if row.Serial, err = f.serial(r.Get("serialnumber")); err != nil {
		return bad(syntax.Place{}, "%v (--serial-base says how they are written)", err)
	}
	if row.Status.NotAfter, err = parseMillis(r.Get("expiredate")); err != nil {
		return entry{problem: "expireDate " + err.Error()}
	}
	reason := r.Get("revocationreason")
	// CertificateConstants of EJBCA: 10 inactive, 11 rollover pending, 20 active,
	// 21 notified of its expiry, 30 temporarily revoked, 40 revoked, 50
	// unrevoked, 60 archived (expired; revoked or not).
	switch status := r.Get("status"); status {
	case "10", "11", "20", "21", "50":
		return entry{row: row}
	case "0":
		return entry{skip: skipUnsigned}
	case "60":
		if reason == "-1" || reason == "8" {
			return entry{row: row}
		}
	case "30", "40":
		if reason == "-1" {
			return bad(syntax.Place{}, "status %s: is revoked, with the reason -1, not revoked", status)
		}
	default:
		return bad(syntax.Place{}, "status %s: want one of 0, 10, 11, 20, 21, 30, 40, 50, 60", syntax.Quote([]byte(status)))
	}
	row.Status.Revoked = true
	if row.Status.RevokedAt, err = parseMillis(r.Get("revocationdate")); err != nil {
		return entry{problem: "revocationDate " + err.Error()}
	}
	if row.Status.Reason, err = parseCode(reason); err != nil {
		return entry{problem: err.Error()}
	}
	return entry{row: row}
}
