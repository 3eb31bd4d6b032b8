package main

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/db"
	"ocspfleet/sync/feed"
)

// feedView is a file of the feed as ocspctl shows it.
type feedView struct {
	Kind        string        `json:"kind"` // checkpoint, segment, snapshot, keys
	Verified    bool          `json:"verified"`
	Origin      string        `json:"origin"`
	Epoch       int64         `json:"epoch"`
	KeySet      int64         `json:"keys"`                   // number of the key set
	Position    *int64        `json:"position,omitempty"`     // null in a key set
	Number      *int64        `json:"segment,omitempty"`      // number of the newest segment
	AsOf        *string       `json:"as_of,omitempty"`        // until when nothing newer existed
	Age         *float64      `json:"age_seconds,omitempty"`  // now - as_of
	PurgeBefore *string       `json:"purge_before,omitempty"` // rows that ended before may be gone
	Tables      []feedTable   `json:"tables,omitempty"`
	First       *int64        `json:"first,omitempty"` // of a segment
	Last        *int64        `json:"last,omitempty"`
	Changes     *int          `json:"changes,omitempty"`
	Leap        bool          `json:"leap,omitempty"`
	Octets      *int64        `json:"octets,omitempty"` // of the body, or of all chunks
	Chunks      *int          `json:"chunks,omitempty"`
	Root        string        `json:"root,omitempty"`
	Signers     []feedKeyView `json:"signers,omitempty"`
	Answerers   []feedKeyView `json:"answerers,omitempty"`  // keys that sign answers for single serials
	Correctors  []feedKeyView `json:"correctors,omitempty"` // keys that sign corrections
	Banned      []string      `json:"banned,omitempty"`
}

type feedTable struct {
	Name   string `json:"name"`
	Count  int64  `json:"count"`
	Digest string `json:"digest"`
}

type feedKeyView struct {
	From     string `json:"from"`
	Until    string `json:"until"`
	Verifier string `json:"verifier"`
	Retired  string `json:"retired,omitempty"` // all that it signed, as feed keys sign takes it
}

func viewCheckpoint(kind string, c *feed.Checkpoint, now time.Time) feedView {
	v := feedView{
		Kind: kind, Origin: c.Origin, Epoch: c.Epoch, KeySet: c.KeySet, Position: &c.Position, Number: &c.Number,
		AsOf: new(cli.Stamp(c.AsOf)), Age: seconds(now.Sub(c.AsOf)), PurgeBefore: cli.StampOrNil(c.PurgeBefore),
	}
	for _, t := range c.Tallies {
		v.Tables = append(v.Tables, feedTable{t.Table, t.Count, fmt.Sprintf("%016x", uint64(t.Digest))})
	}
	return v
}

func viewSegment(c *feed.Checkpoint, s *feed.Segment, octets int, now time.Time) feedView {
	v := viewCheckpoint("segment", c, now)
	v.First, v.Last, v.Changes, v.Leap, v.Octets = &s.First, &s.Last, new(len(s.Changes)), s.SnapshotRequired, new(int64(octets))
	return v
}

func viewSnapshot(s *feed.Snapshot, now time.Time) feedView {
	v := viewCheckpoint("snapshot", &s.Checkpoint, now)
	v.Octets, v.Chunks = new(s.Size()), new(len(s.Chunks))
	return v
}

func viewKeySet(k *feed.KeySet) feedView {
	v := feedView{Kind: "keys", Origin: k.Origin, Epoch: k.Epoch, KeySet: k.Number, Banned: k.Banned}
	v.Signers, v.Answerers, v.Correctors = viewKeys(k.Keys), viewKeys(k.Answers), viewKeys(k.Correct)
	return v
}

func viewKeys(keys []feed.FeedKey) []feedKeyView {
	var views []feedKeyView
	for _, key := range keys {
		views = append(views, feedKeyView{cli.Stamp(key.From), cli.Stamp(key.Until), key.Verifier, showRetired(key.Retired)})
	}
	return views
}

func (k feedKeyView) String() string {
	text := fmt.Sprintf("%s to %s %s", k.From, k.Until, k.Verifier)
	if k.Retired != "" {
		text += ", retired: " + k.Retired
	}
	return text
}

func (v feedView) tell(t *cli.Table) {
	number := func(name string, n *int64) {
		if n != nil {
			t.Row(name, strconv.FormatInt(*n, 10))
		}
	}
	t.Row("kind", v.Kind)
	t.Row("origin", v.Origin)
	number("epoch", &v.Epoch)
	number("keys", &v.KeySet)
	number("position", v.Position)
	number("segment", v.Number)
	if v.AsOf != nil {
		t.Row("as of", *v.AsOf)
		t.Row("age", cli.Span(time.Duration(*v.Age)*time.Second))
	}
	if v.First != nil {
		t.Row("changes", fmt.Sprintf("%d to %d", *v.First, *v.Last))
	}
	if v.Leap {
		t.Row("leap", "its changes are in no segment: a snapshot has them")
	}
	number("octets", v.Octets)
	if v.Chunks != nil {
		t.Row("chunks", strconv.Itoa(*v.Chunks))
	}
	for _, table := range v.Tables {
		t.Row("table "+table.Name, fmt.Sprintf("%d rows, digest %s", table.Count, table.Digest))
	}
	if v.Root != "" {
		t.Row("root", v.Root)
	}
	for _, key := range v.Signers {
		t.Row("signs", key.String())
	}
	for _, key := range v.Answerers {
		t.Row("answers", key.String())
	}
	for _, key := range v.Correctors {
		t.Row("corrects", key.String())
	}
	for _, key := range v.Banned {
		t.Row("banned", key)
	}
}

// feedEntry is one line of NDJSON: a certificate's status, or another row.
type feedEntry struct {
	Position *int64       `json:"position,omitempty"` // none in a snapshot
	Table    string       `json:"table"`
	Deleted  bool         `json:"deleted"`
	Issuer   *db.IssuerID `json:"issuer_id,omitempty"`
	Serial   *string      `json:"serial,omitempty"`
	NotAfter *string      `json:"not_after,omitempty"`
	Revoked  *string      `json:"revoked_at,omitempty"`
	Reason   *string      `json:"reason,omitempty"`
	Content  *string      `json:"content,omitempty"` // canonical bytes in hex, of other tables
}

func viewFeedEntry(c db.Change) (feedEntry, error) {
	t, err := db.FeedTableOf(c.Table)
	if err != nil {
		return feedEntry{}, err
	}
	e := feedEntry{Table: t.Name, Deleted: c.Deleted}
	if c.Position > 0 {
		e.Position = &c.Position
	}
	if c.Table != db.CertificateTable {
		e.Content = new(hex.EncodeToString(c.Content))
		return e, nil
	}
	if c.Deleted {
		issuer, serial, err := db.ParseCertificateKey(c.Content)
		e.Issuer, e.Serial = &issuer, new(serial.String())
		return e, err
	}
	issuer, serial, status, err := db.ParseCertificate(c.Content)
	e.Issuer, e.Serial, e.NotAfter = &issuer, new(serial.String()), cli.StampOrNil(status.NotAfter)
	if status.Revoked {
		e.Revoked, e.Reason = new(cli.Stamp(status.RevokedAt)), cli.TextOrNil(status.Reason.String())
	}
	return e, err
}
