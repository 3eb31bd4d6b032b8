package feed

import (
	"fmt"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/db"
	"ocspfleet/sync/feed"
)

// checkpoint returns a file of the feed, with the fields of its kind.
func checkpoint(kind string, c *feed.Checkpoint, now time.Time, own ...cli.Field) cli.Record {
	age := now.Sub(c.AsOf).Truncate(time.Second)
	r := cli.Record{
		cli.F("kind", "kind", kind), cli.F("origin", "origin", c.Origin), cli.F("epoch", "epoch", c.Epoch), cli.F("keys", "keys", c.KeySet),
		cli.F("position", "position", c.Position), cli.F("segment", "segment", c.Number),
		cli.F("as_of", "as of", c.AsOf), cli.Shown("age_seconds", "age", age.Seconds(), cli.Span(age)),
	}
	if !c.PurgeBefore.IsZero() {
		r = append(r, cli.F("purge_before", "", c.PurgeBefore))
	}
	r = append(r, own...)
	var tables []cli.Record
	for _, t := range c.Tallies {
		digest := fmt.Sprintf("%016x", uint64(t.Digest))
		tables = append(tables, cli.Record{cli.F("name", "", t.Table), cli.F("count", "", t.Count), cli.F("digest", "", digest)})
		r = append(r, cli.F("", "table "+t.Table, fmt.Sprintf("%d rows, digest %s", t.Count, digest)))
	}
	if len(tables) > 0 {
		r = append(r, cli.F("tables", "", tables))
	}
	return r
}

func segment(c *feed.Checkpoint, s *feed.Segment, octets int, now time.Time) cli.Record {
	own := cli.Record{
		cli.F("first", "", s.First), cli.F("last", "", s.Last), cli.F("", "changes", fmt.Sprintf("%d to %d", s.First, s.Last)), cli.F("changes", "", len(s.Changes)),
	}
	if s.SnapshotRequired {
		own = append(own, cli.Shown("leap", "leap", true, "its changes are in no segment: a snapshot has them"))
	}
	return checkpoint("segment", c, now, append(own, cli.F("octets", "octets", octets))...)
}

func snapshot(s *feed.Snapshot, now time.Time) cli.Record {
	return checkpoint("snapshot", &s.Checkpoint, now, cli.F("octets", "octets", s.Size()), cli.F("chunks", "chunks", len(s.Chunks)))
}

// keySet returns a key set; answerers sign answers for single serials, correctors corrections.
func keySet(k *feed.KeySet, own ...cli.Field) cli.Record {
	r := append(cli.Record{cli.F("kind", "kind", "keys"), cli.F("origin", "origin", k.Origin), cli.F("epoch", "epoch", k.Epoch), cli.F("keys", "keys", k.Number)}, own...)
	for _, kind := range []struct {
		key, label string
		keys       []feed.FeedKey
	}{{"signers", "signs", k.Keys}, {"answerers", "answers", k.Answers}, {"correctors", "corrects", k.Correct}} {
		for _, key := range kind.keys {
			text := fmt.Sprintf("%s to %s %s", cli.Stamp(key.From), cli.Stamp(key.Until), key.Verifier)
			if key.Retired != nil {
				text += ", retired: " + showRetired(key.Retired)
			}
			r = append(r, cli.F("", kind.label, text))
		}
		if len(kind.keys) > 0 {
			r = append(r, cli.F(kind.key, "", cli.Records(kind.keys, key)))
		}
	}
	for _, banned := range k.Banned {
		r = append(r, cli.F("", "banned", banned))
	}
	if len(k.Banned) > 0 {
		r = append(r, cli.F("banned", "", k.Banned))
	}
	return r
}

func key(k feed.FeedKey) cli.Record {
	r := cli.Record{cli.F("from", "", k.From), cli.F("until", "", k.Until), cli.F("verifier", "", k.Verifier)}
	if k.Retired != nil {
		r = append(r, cli.F("retired", "", showRetired(k.Retired)))
	}
	return r
}

// entry returns one line of NDJSON: a certificate's status, or another row with its canonical
// bytes. A row of a snapshot has no position.
func entry(c db.Change) (cli.Record, error) {
	t, err := db.FeedTableOf(c.Table)
	if err != nil {
		return nil, err
	}
	var r cli.Record
	if c.Position > 0 {
		r = append(r, cli.F("position", "", c.Position))
	}
	r = append(r, cli.F("table", "", t.Name), cli.F("deleted", "", c.Deleted))
	if c.Table != db.CertificateTable {
		return append(r, cli.F("content", "", c.Content)), nil
	}
	var issuer db.IssuerID
	var serial db.Serial
	var status db.Status
	if c.Deleted {
		issuer, serial, err = db.ParseCertificateKey(c.Content)
	} else {
		issuer, serial, status, err = db.ParseCertificate(c.Content)
	}
	r = append(r, cli.F("issuer_id", "", issuer), cli.F("serial", "", serial))
	if !status.NotAfter.IsZero() {
		r = append(r, cli.F("not_after", "", status.NotAfter))
	}
	if status.Revoked {
		r = append(r, cli.F("revoked_at", "", status.RevokedAt))
		if reason := status.Reason.String(); reason != "" {
			r = append(r, cli.F("reason", "", reason))
		}
	}
	return r, err
}
