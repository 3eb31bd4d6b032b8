package pull_test

import (
	"bytes"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/sync/feed"
)

// thief has the feed key and a relay of his own: what it shows is signed, dense and
// counted, and says what he likes.
type thief struct {
	t *testing.T
	m *master
	*site
	head   db.Head
	anchor sitedb.Anchor
}

// steals begins where the master is.
func (m *master) steals(t *testing.T) *thief {
	t.Helper()
	s := newSite(t)
	_, stop := s.pulls(t, m, nil, serve(t, m.store, m.latest, s.id, nil))
	m.sealed(t)
	s.equals(t, m)
	s.standsOn(t, m.latest.Newest().Number)
	stop()
	copied, err := s.store.Site.FeedCopy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &thief{t, m, s, copied.Head, copied.Anchor}
}

// row is one row as it was and as it shall be; nil: there is none.
type row struct {
	table   byte
	was, is []byte
}

// shows signs a segment of these changes.
func (h *thief) shows(rows ...row) {
	h.t.Helper()
	head := h.head
	head.AsOf = time.Now().UTC().Truncate(time.Microsecond)
	segment := &feed.Segment{Epoch: head.Epoch, Number: h.anchor.Number + 1, First: head.Position + 1, Previous: feed.Hash(h.anchor.Hash)}
	for _, r := range rows {
		t, err := db.FeedTableOf(r.table)
		if err != nil {
			h.t.Fatal(err)
		}
		head.Position++
		c := db.Change{Position: head.Position, Table: r.table, Content: r.is}
		if r.was != nil {
			t.Tally(&head).Remove(r.was)
		}
		if r.is != nil {
			t.Tally(&head).Add(r.is)
		} else {
			c.Deleted, c.Content = true, h.key(r)
		}
		segment.Changes = append(segment.Changes, c)
	}
	segment.Last = head.Position
	c := feed.NewCheckpoint(origin, head, time.Time{})
	c.KeySet, c.Previous = h.m.keys.Number, feed.Hash(h.anchor.NoteHash)
	sealed, err := feed.Seal(segment, &c, h.m.key)
	if err != nil {
		h.t.Fatal(err)
	}
	signed := db.FeedNote{Epoch: c.Epoch, Number: c.Number, Position: c.Position, AsOf: c.AsOf, Note: sealed.Note}
	kept := &db.Segment{
		Epoch: c.Epoch, Number: c.Number, First: segment.First, Last: segment.Last, Hash: c.Segment, Note: sealed.Note, NoteHash: c.Hash(), Body: sealed.Body,
	}
	h.plants(h.t, signed, kept)
	h.head, h.anchor = head, sitedb.Anchor{Epoch: c.Epoch, Number: c.Number, Hash: c.Segment, NoteHash: c.Hash()}
	h.latest.Publish(signed)
}

func (h *thief) key(r row) []byte {
	h.t.Helper()
	switch r.table {
	case db.CertificateTable:
		issuer, serial, _, err := db.ParseCertificate(r.was)
		if err != nil {
			h.t.Fatal(err)
		}
		return db.AppendCertificateKey(nil, issuer, serial)
	case 'i':
		return r.was[:4]
	}
	return r.was
}

// certificate is the row of a certificate of issuer 1.
func certificate(n int, s db.Status) []byte { return db.AppendCertificate(nil, 1, serial(n), s) }

// correction is the row of one of a state, with its note by a key.
func (h *thief) correction(was db.Status, made time.Time, key *feed.Key) []byte {
	h.t.Helper()
	made = made.UTC().Truncate(time.Second)
	n := feed.CorrectionNote{Origin: origin, Issuer: feed.Hash(h.issuer().Key), Serial: serial(1), Was: was, Wrong: db.WrongRevoked, CorrectedAt: made}
	signed, err := n.Sign(key)
	if err != nil {
		h.t.Fatal(err)
	}
	return db.AppendCorrection(nil, db.Correction{IssuerID: 1, Serial: serial(1), RevokedAt: was.RevokedAt, CorrectedAt: made, Note: signed})
}

// status is what the thief's copy of the master knows of a certificate.
func (h *thief) status(n int) db.Status {
	h.t.Helper()
	s, err := h.store.Certificate(h.t.Context(), 1, serial(n))
	if err != nil {
		h.t.Fatal(err)
	}
	s.Changed = 0
	return s
}

func (h *thief) issuer() db.Issuer {
	h.t.Helper()
	list, err := h.store.Issuers(h.t.Context())
	if err != nil || len(list) != 1 {
		h.t.Fatal(list, err)
	}
	return list[0]
}

func good(s db.Status) db.Status {
	s.Revoked, s.RevokedAt, s.Reason = false, time.Time{}, db.ReasonNone
	return s
}

// Whoever has the feed key cannot take a permanent revocation back, by whatever way.
func TestTheFeedKeyTakesNoRevocationBack(t *testing.T) {
	if testing.Short() {
		t.Skip("starts several sites")
	}
	t.Parallel()
	for name, attack := range map[string]func(h *thief){
		"a forged correction": func(h *thief) {
			was := h.status(1)
			h.shows(row{db.CorrectionTable, nil, h.correction(was, time.Now(), h.m.key)}, row{db.CertificateTable, certificate(1, was), certificate(1, good(was))})
		},
		"a correction of long ago, by a stolen key": func(h *thief) {
			was := h.status(1)
			made := time.Now().Add(-db.CorrectionLead - time.Minute)
			h.shows(row{db.CorrectionTable, nil, h.correction(was, made, h.m.corrects)}, row{db.CertificateTable, certificate(1, was), certificate(1, good(was))})
		},
		"an end in the past, then one in the future": func(h *thief) {
			was := h.status(1)
			ended := was
			ended.NotAfter = time.Now().Add(-time.Minute).Truncate(time.Second)
			h.shows(row{db.CertificateTable, certificate(1, was), certificate(1, ended)})
			h.shows(row{db.CertificateTable, certificate(1, ended), certificate(1, good(was))})
		},
		"an end in the past, then none": func(h *thief) {
			was := h.status(1)
			ended := was
			ended.NotAfter = time.Now().Add(-time.Minute).Truncate(time.Second)
			h.shows(row{db.CertificateTable, certificate(1, was), certificate(1, ended)})
			h.shows(row{db.CertificateTable, certificate(1, ended), nil})
		},
		"the issuer under another number": func(h *thief) {
			i := h.issuer()
			other := i
			other.ID = 2
			h.shows(row{'i', db.AppendIssuer(nil, i), nil}, row{'i', nil, db.AppendIssuer(nil, other)},
				row{db.CertificateTable, nil, db.AppendCertificate(nil, 2, serial(1), good(h.status(1)))})
		},
		"the issuer's number with another key": func(h *thief) {
			i := h.issuer()
			other, moved := i, i
			other.Key, other.Name = [32]byte{9}, "other"
			moved.ID = 2
			h.shows(row{'i', db.AppendIssuer(nil, i), db.AppendIssuer(nil, other)}, row{'i', nil, db.AppendIssuer(nil, moved)},
				row{db.CertificateTable, nil, db.AppendCertificate(nil, 2, serial(1), good(h.status(1)))})
		},
		"another time of revocation": func(h *thief) {
			was := h.status(1)
			other := was
			other.RevokedAt = was.RevokedAt.Add(-time.Hour)
			h.shows(row{db.CertificateTable, certificate(1, was), certificate(1, other)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, victim := newMaster(t), newSite(t)
			m.issue(t, 1)
			m.revoke(t, 1, db.ReasonKeyCompromise)
			_, stop := victim.pulls(t, m, nil, serve(t, m.store, m.latest, victim.id, nil))
			h := m.steals(t)
			victim.equals(t, m)
			victim.standsOn(t, h.anchor.Number)
			stop()
			before, issuers := h.status(1), issuerRows(t, victim)
			attack(h)
			p, _ := victim.pulls(t, m, nil, serve(t, h.store, h.latest, victim.id, nil))
			awaitTrouble(t, p, db.ErrRevocationsLost)
			got, err := victim.store.Certificate(t.Context(), 1, serial(1))
			if err != nil || !got.Permanent() || !got.NotAfter.Equal(before.NotAfter) || !got.RevokedAt.Equal(before.RevokedAt) {
				t.Errorf("the site says %+v, %v", got, err)
			}
			if !bytes.Equal(issuers, issuerRows(t, victim)) {
				t.Error("the revocation hangs under another issuer")
			}
		})
	}
}

func issuerRows(t *testing.T, s *site) (all []byte) {
	t.Helper()
	list, err := s.store.Issuers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		all = db.AppendIssuer(all, i)
	}
	return all
}
