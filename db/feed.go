package db

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// Change is one change of a replicated row: its new content, or its deletion. It is a state, not
// an event: to apply a change twice does no harm.
type Change struct {
	Position int64
	Table    byte // code of a FeedTable
	Deleted  bool
	// Content is the row's canonical bytes; of a deleted row their first part, the key.
	Content []byte
}

// FeedTable is one replicated table with its names in changes, tallies and the feed.
type FeedTable struct {
	Name  string             // as in SQL, in change_body.table_name and in checkpoints
	Code  byte               // as in the feed's entries
	Tally func(*Head) *Tally // its place in a head
	Rows  string             // SQL of the canonical bytes of row t
	// columns of a row, the key first; values and keyValues read them from canonical bytes.
	Columns   []string
	Keys      int
	Values    func(content []byte) ([]any, error)
	KeyValues func(key []byte) ([]any, error)
}

// CertificateTable is the code of the one table that the feed writes compactly, CorrectionTable
// that of the one whose rows are all key; the other codes need no name.
const (
	CertificateTable = 'c'
	CorrectionTable  = 'k'
	IssuerTable      = 'i'
	ResponderTable   = 'r'
	PinTable         = 'p'
)

// FeedTables are the replicated tables in the order of their names: what the feed seals, carries
// and tallies.
var FeedTables = []FeedTable{
	{
		Name: "certificate", Code: CertificateTable, Tally: func(h *Head) *Tally { return &h.Certificates }, Rows: CertificateCanonical,
		Columns: []string{"issuer_id", "serial", "not_after", "revoked_at", "reason"}, Keys: 2,
		Values: certificateValues, KeyValues: certificateKeyValues,
	},
	{
		Name: "closed_pin", Code: PinTable, Tally: func(h *Head) *Tally { return &h.ClosedPins }, Rows: "t.pin",
		Columns: []string{"pin"}, Keys: 1,
		Values: pinValues, KeyValues: pinValues,
	},
	{
		Name: "correction", Code: CorrectionTable, Tally: func(h *Head) *Tally { return &h.Corrections }, Rows: correctionCanonical,
		Columns: []string{"issuer_id", "serial", "revoked_at", "corrected_at", "note"}, Keys: 5,
		Values: correctionValues, KeyValues: correctionValues,
	},
	{
		Name: "issuer", Code: IssuerTable, Tally: func(h *Head) *Tally { return &h.Issuers }, Rows: "issuer_canonical(row(t.*)::public.issuer)",
		Columns: []string{
			"id", "key_hash", "name", "certificate", "validity", "backdate", "max_staleness", "fresh_for_unknown", "http_max_age",
			"never_issued", "profile", "crl_url", "policy_version", "crl", "refresh", "archive_cutoff",
		}, Keys: 1,
		Values: issuerValues, KeyValues: issuerKeyValues,
	},
	{
		Name: "responder_certificate", Code: ResponderTable, Tally: func(h *Head) *Tally { return &h.ResponderCertificates },
		Rows:    "responder_certificate_canonical(row(t.*)::public.responder_certificate)",
		Columns: []string{"fingerprint", "issuer_id", "serial", "site", "key_hash", "der"}, Keys: 1,
		Values: responderCertificateValues, KeyValues: responderCertificateKeyValues,
	},
}

// HeadTable is the table that counts the others.
const HeadTable = "feed_head"

// ReplicatedTables are the tables of a site's copy, the head first: locks are taken in this order.
var ReplicatedTables = replicatedTables()

func replicatedTables() []string {
	names := []string{HeadTable}
	for _, t := range FeedTables {
		names = append(names, t.Name)
	}
	return names
}

// FeedTableOf finds a replicated table by its code.
func FeedTableOf(code byte) (FeedTable, error) {
	at := slices.IndexFunc(FeedTables, func(t FeedTable) bool { return t.Code == code })
	if at < 0 {
		return FeedTable{}, fmt.Errorf("table %q is unknown: upgrade this program", code)
	}
	return FeedTables[at], nil
}

// CodeOf returns the code of the replicated table that a change names; 0: no such table, and no
// segment can carry the change.
func CodeOf(table string) byte {
	for _, t := range FeedTables {
		if t.Name == table {
			return t.Code
		}
	}
	return 0
}

func certificateValues(content []byte) ([]any, error) {
	issuer, serial, status, err := ParseCertificate(content)
	if err != nil {
		return nil, err
	}
	revokedAt, reason := RevocationArg(status)
	return []any{int32(issuer), []byte(serial), status.NotAfter, revokedAt, reason}, nil
}

func certificateKeyValues(key []byte) ([]any, error) {
	issuer, serial, err := ParseCertificateKey(key)
	return []any{int32(issuer), []byte(serial)}, err
}

func correctionValues(content []byte) ([]any, error) {
	c, err := ParseCorrection(content)
	return []any{int32(c.IssuerID), []byte(c.Serial), c.RevokedAt, c.CorrectedAt, c.Note}, err
}

func issuerValues(content []byte) ([]any, error) {
	i, err := ParseIssuer(content)
	p := i.Policy
	seconds := func(d time.Duration) int32 { return int32(d / time.Second) }
	return []any{
		int32(i.ID), i.Key[:], i.Name, i.Certificate, seconds(p.Validity), seconds(p.Backdate), seconds(p.MaxStaleness),
		seconds(p.FreshForUnknown), seconds(p.HTTPMaxAge), string(p.NeverIssued), string(p.Profile), p.CRLURL, p.Version,
		append([]byte{}, i.CRL...), // an empty CRL is not null
		seconds(p.Refresh), p.ArchiveCutoff,
	}, err
}

func issuerKeyValues(key []byte) ([]any, error) {
	if len(key) != 4 {
		return nil, fmt.Errorf("key of an issuer: %w", ErrCanonical)
	}
	return []any{int32(binary.BigEndian.Uint32(key))}, nil
}

func responderCertificateValues(content []byte) ([]any, error) {
	c, err := ParseResponderCertificate(content)
	return []any{c.Fingerprint[:], int32(c.IssuerID), []byte(c.Serial), c.Site, c.KeyHash[:], c.DER}, err
}

func responderCertificateKeyValues(key []byte) ([]any, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("key of a responder certificate: %w", ErrCanonical)
	}
	return []any{key}, nil
}

func pinValues(content []byte) ([]any, error) {
	if len(content) != 32 {
		return nil, fmt.Errorf("closed pin of %d octets: %w", len(content), ErrCanonical)
	}
	return []any{content}, nil
}

// KeyOf returns the part of canonical bytes that names the row.
func (t FeedTable) KeyOf(content []byte) (string, error) {
	n := map[byte]int{IssuerTable: 4, ResponderTable: 32, PinTable: 32, CorrectionTable: len(content)}[t.Code]
	if t.Code == CertificateTable && len(content) >= 6 {
		n = 6 + int(binary.BigEndian.Uint16(content[4:]))
	}
	if n == 0 || len(content) < n {
		return "", fmt.Errorf("row of %s: %w", t.Name, ErrCanonical)
	}
	return string(content[:n]), nil
}

// CertificateCanonical is the canonical bytes of row t of certificate, in SQL.
const CertificateCanonical = "certificate_canonical(t.issuer_id, t.serial, t.not_after, t.revoked_at, t.reason)"

// FeedClient is a site that fetched the feed from the master.
type FeedClient struct {
	Site     string
	Position int64 // that the site reported
	SeenAt   time.Time
	Form     int // the newest form of the feed's notes that it reads (feed.Form); 0: unknown
}
