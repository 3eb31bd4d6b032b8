package feed_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feed"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// correctKeys is key set 3: key one for the feed, key three for corrections.
func correctKeys(tb testing.TB) *feed.KeySet {
	tb.Helper()
	k := feedtest.KeySet(tb, "one")
	k.Number = 3
	k.Correct = []feed.FeedKey{{From: k.Keys[0].From, Until: k.Keys[0].Until, Verifier: feedtest.KeyOf(tb, "three").Verifier()}}
	return k
}

// testCorrection takes a keyCompromise back.
func testCorrection() feed.CorrectionNote {
	return feed.CorrectionNote{
		Origin: origin, Issuer: feed.Hash{1}, Serial: db.Serial{0x00, 0xff}, Wrong: db.WrongRevoked, CorrectedAt: feedtest.Noon.Truncate(time.Second),
		Was: db.Status{Revoked: true, RevokedAt: feedtest.Noon.Add(-time.Hour).Truncate(time.Second), Reason: db.ReasonKeyCompromise, NotAfter: feedtest.Noon.AddDate(1, 0, 0).Truncate(time.Second)},
	}
}

// What is signed comes back as it was, whatever it says, and fits into the table.
func TestCorrectionNoteComesBack(t *testing.T) {
	keys := correctKeys(t)
	rapid.Check(t, func(r *rapid.T) {
		want := testCorrection()
		want.Serial = append([]byte{0x01}, rapid.SliceOfN(rapid.Byte(), 0, 19).Draw(r, "serial")...)
		want.Was.Reason = rapid.SampledFrom([]db.Reason{db.ReasonNone, db.ReasonKeyCompromise, db.ReasonSuperseded, db.ReasonAACompromise}).Draw(r, "reason")
		want.Was.NotAfter = time.Unix(rapid.Int64Range(1, 1<<33).Draw(r, "end"), 0).UTC()
		want.Wrong = rapid.SampledFrom([]db.Wrong{db.WrongRevoked, db.WrongIssued, db.WrongNotAfter}).Draw(r, "wrong")
		if want.Wrong == db.WrongNotAfter {
			want.NotAfter = want.Was.NotAfter.Add(-time.Duration(rapid.Int64Range(1, 1<<20).Draw(r, "sooner")) * time.Second)
		}
		signed := signed(t, want, "three")
		got, err := keys.OpenCorrection(signed)
		if err != nil {
			r.Fatal(err)
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			r.Fatalf("(-want +got)\n%s", diff)
		}
	})
	longest := testCorrection()
	longest.Origin = strings.Repeat("a", 100) + "/" + strings.Repeat("b", 32)
	longest.Serial, longest.Was.Reason = bytes.Repeat([]byte{0x7f}, 20), db.ReasonCessationOfOperation
	longest.Wrong, longest.NotAfter = db.WrongNotAfter, longest.Was.NotAfter.AddDate(1, 0, 0)
	if n := len(longest.Text()) + len("\n— ") + len(longest.Origin) + len(" ") + 92 + len("\n"); n > feed.MaxCorrectionNote {
		t.Errorf("the longest one has %d octets, %d fit", n, feed.MaxCorrectionNote)
	}
}

func TestCorrectionNoteGolden(t *testing.T) {
	golden(t, "keys-3", "correction", "three", correctKeys(t), testCorrection(), (*feed.KeySet).OpenCorrection)
}

// No octet of a signed correction can be changed, and none be added.
func TestEveryOctetOfACorrectionCounts(t *testing.T) {
	keys, note := correctKeys(t), signed(t, testCorrection(), "three")
	everyOctetCounts(t, note, keys.OpenCorrection)
	n := testCorrection()
	second := signed(t, n, "two")[len(n.Text())+1:]
	if _, err := keys.OpenCorrection(append(bytes.Clone(note), second...)); !errors.Is(err, feed.ErrForged) {
		t.Errorf("with a second signature: %v", err)
	}
}

// Only a key that is named for corrections makes one, and it makes nothing else.
func TestOnlyACorrectKeyCorrects(t *testing.T) {
	keys := correctKeys(t)
	keys.Answers = []feed.FeedKey{{From: keys.Keys[0].From, Until: keys.Keys[0].Until, Verifier: feedtest.KeyOf(t, "two").Verifier()}}
	for _, word := range []string{"one", "two", "root", "other"} {
		if _, err := keys.OpenCorrection(signed(t, testCorrection(), word)); !errors.Is(err, feed.ErrForged) {
			t.Errorf("key %s corrects: %v", word, err)
		}
	}
	c := feedtest.Checkpoint(8)
	note, err := c.Sign(feedtest.KeyOf(t, "three"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.OpenCheckpoint(note); !errors.Is(err, feed.ErrForged) {
		t.Errorf("a checkpoint by the key for corrections: %v", err)
	}
	if _, err := keys.OpenAnswer(signed(t, feedtest.Answer(), "three")); !errors.Is(err, feed.ErrForged) {
		t.Errorf("an answer by the key for corrections: %v", err)
	}
	for name, both := range map[string]func(*feed.KeySet){
		"key and correct":    func(k *feed.KeySet) { k.Keys = append(k.Keys, k.Correct[0]) },
		"answer and correct": func(k *feed.KeySet) { k.Answers = append(k.Answers, k.Correct[0]) },
		"banned":             func(k *feed.KeySet) { k.Banned = []string{k.Correct[0].Verifier} },
	} {
		set := correctKeys(t)
		both(set)
		if _, err := set.Sign(feedtest.KeyOf(t, "root")); err == nil {
			t.Errorf("one key may be %s", name)
		}
	}
}

func TestCorrectionNoteIsRefused(t *testing.T) {
	keys := correctKeys(t)
	for name, change := range map[string]func(*feed.CorrectionNote){
		"of another feed":       func(n *feed.CorrectionNote) { n.Origin = "other.example" },
		"before the key's time": func(n *feed.CorrectionNote) { n.CorrectedAt = keys.Correct[0].From.Add(-time.Second) },
		"after the key's end":   func(n *feed.CorrectionNote) { n.CorrectedAt = keys.Correct[0].Until },
	} {
		n := testCorrection()
		change(&n)
		if _, err := keys.OpenCorrection(signed(t, n, "three")); !errors.Is(err, feed.ErrForged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*feed.CorrectionNote){
		"of a hold":           func(n *feed.CorrectionNote) { n.Was.Reason = db.ReasonCertificateHold },
		"of a good one":       func(n *feed.CorrectionNote) { n.Was.Revoked, n.Was.RevokedAt = false, time.Time{} },
		"of no serial":        func(n *feed.CorrectionNote) { n.Serial = nil },
		"of another mistake":  func(n *feed.CorrectionNote) { n.Wrong = "typed" },
		"moves no end":        func(n *feed.CorrectionNote) { n.Wrong, n.NotAfter = db.WrongNotAfter, n.Was.NotAfter },
		"of parts of seconds": func(n *feed.CorrectionNote) { n.CorrectedAt = feedtest.Noon },
		"of a feed's keys":    func(n *feed.CorrectionNote) { n.Origin += "/keys" },
	} {
		n := testCorrection()
		change(&n)
		if _, err := n.Sign(feedtest.KeyOf(t, "three")); err == nil {
			t.Errorf("%s: it is signed", name)
		}
	}
}

// A note is for one row: another serial, revocation, time or issuer is another row.
func TestCorrectionNoteIsOfItsRowAlone(t *testing.T) {
	n := testCorrection()
	row := db.Correction{IssuerID: 1, Serial: n.Serial, RevokedAt: n.Was.RevokedAt, CorrectedAt: n.CorrectedAt}
	if !n.Row(row, n.Issuer) {
		t.Error("it is not of its own row")
	}
	serial, revoked, at := row, row, row
	serial.Serial, revoked.RevokedAt, at.CorrectedAt = db.Serial{1}, n.Was.RevokedAt.Add(time.Second), n.CorrectedAt.Add(time.Second)
	if n.Row(serial, n.Issuer) || n.Row(revoked, n.Issuer) || n.Row(at, n.Issuer) || n.Row(row, feed.Hash{2}) {
		t.Error("it is of another row, too")
	}
}

// A retired key's corrections count only if they are those that the root named.
func TestRetiredCorrectKeyMakesNoMore(t *testing.T) {
	made := make([]*feed.CorrectionNote, 3)
	notes := make([][]byte, 3)
	for i := range made {
		n := testCorrection()
		n.Serial = db.Serial{byte(i + 1)}
		made[i], notes[i] = &n, signed(t, n, "three")
	}
	late := testCorrection()
	keys := correctKeys(t)
	sum := feed.SumCorrections([]*feed.CorrectionNote{made[2], made[0], made[1], made[0]})
	if sum != feed.SumCorrections(made) || sum.Number != 3 {
		t.Errorf("the order counts, or what stands twice: %+v", sum)
	}
	keys.Correct[0].Retired = &sum
	set, err := keys.Sign(feedtest.KeyOf(t, "root"))
	if err != nil {
		t.Fatal(err)
	}
	if keys, err = feed.OpenKeySet(set, origin, feedtest.RootOf(t)); err != nil {
		t.Fatal(err)
	}
	foreign := signed(t, testCorrection(), "two")
	for name, test := range map[string]struct {
		notes [][]byte
		want  []bool
	}{
		"all of them":           {notes, []bool{true, true, true}},
		"on the way to them":    {notes[:2], []bool{true, true}},
		"and a foreign one":     {append(notes[:3:3], foreign), []bool{true, true, true, false}},
		"and one more":          {append(notes[:3:3], signed(t, late, "three")), []bool{false, false, false, false}},
		"another one for one":   {append(notes[:2:2], signed(t, late, "three")), []bool{false, false, false}},
		"nothing of this key's": {[][]byte{foreign, nil}, []bool{false, false}},
	} {
		for i, n := range keys.CheckCorrections(test.notes) {
			if (n != nil) != test.want[i] {
				t.Errorf("%s: correction %d verifies: %v", name, i, n != nil)
			}
		}
	}
	keys.Correct[0].Retired = nil
	if n := keys.CheckCorrections(append(notes[:3:3], signed(t, late, "three")))[3]; n == nil {
		t.Error("a key in use makes no more")
	}
}

// A feed key that has retired signs nothing beyond its last segment.
func TestRetiredFeedKeySealsNoMore(t *testing.T) {
	keys := feedtest.KeySet(t, "one", "two")
	last := feedtest.Checkpoint(8)
	last.Number, last.Segment = 7, feed.Hash{7}
	keys.Keys[0].Retired = &feed.Retired{Epoch: epoch, Number: 7, Hash: last.Segment}
	set, err := keys.Sign(feedtest.KeyOf(t, "root"))
	if err != nil {
		t.Fatal(err)
	}
	if keys, err = feed.OpenKeySet(set, origin, feedtest.RootOf(t)); err != nil {
		t.Fatal(err)
	}
	before, beyond, other := last, last, last
	before.Number, before.Segment = 6, feed.Hash{6}
	beyond.Number = 8
	other.Segment = feed.Hash{8}
	for name, test := range map[string]struct {
		c    feed.Checkpoint
		key  string
		want bool
	}{
		"its last segment":         {last, "one", true},
		"one before":               {before, "one", true},
		"one beyond":               {beyond, "one", false},
		"another of the same name": {other, "one", false},
		"one beyond, by the next":  {beyond, "two", true},
	} {
		note, err := test.c.Sign(feedtest.KeyOf(t, test.key))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := keys.OpenCheckpoint(note); (err == nil) != test.want || err != nil && !errors.Is(err, feed.ErrForged) {
			t.Errorf("%s: %v", name, err)
		}
		snapshot := feed.Snapshot{Checkpoint: test.c, Chunks: []feed.Chunk{{Size: 1, Hash: feed.Hash{1}}}}
		if note, err = snapshot.Sign(feedtest.KeyOf(t, test.key)); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.OpenSnapshot(note); (err == nil) != test.want {
			t.Errorf("%s, a snapshot: %v", name, err)
		}
	}
	for name, line := range map[string]string{
		"an answer key that retires": "answer 2026-10-23T12:00:00.000000Z 2027-10-23T12:00:00.000000Z " + feedtest.KeyOf(t, "three").Verifier() + " made 0 " + strings.Repeat("A", 43) + "=",
		"a feed key that corrected":  "key 2026-10-23T12:00:00.000000Z 2027-10-23T12:00:00.000000Z " + feedtest.KeyOf(t, "three").Verifier() + " made 0 " + strings.Repeat("A", 43) + "=",
	} {
		if _, err := feed.ParseKeySet(origin + "/keys\n1\nepoch 1\n" + line + "\n"); err == nil {
			t.Errorf("%s: it is read", name)
		}
	}
}

// A key set of a fleet without a feed names keys for corrections alone.
func TestKeySetMayNameCorrectKeysAlone(t *testing.T) {
	keys := correctKeys(t)
	keys.Keys = nil
	if _, err := keys.Sign(feedtest.KeyOf(t, "root")); err != nil {
		t.Error(err)
	}
	keys.Correct = nil
	if _, err := keys.Sign(feedtest.KeyOf(t, "root")); err == nil {
		t.Error("a key set without any key is signed")
	}
}

func FuzzParseCorrectionNote(f *testing.F) {
	n := testCorrection()
	f.Add(n.Text())
	n.Wrong, n.NotAfter = db.WrongNotAfter, n.Was.NotAfter.AddDate(0, 1, 0)
	f.Add(n.Text())
	f.Fuzz(func(t *testing.T, text string) {
		n, err := feed.ParseCorrectionNote(text)
		if err == nil && n.Text() != text {
			t.Fatalf("%q was written as %q", text, n.Text())
		}
	})
}

func FuzzParseKeySet(f *testing.F) {
	k := correctKeys(f)
	f.Add(k.Text())
	k.Keys[0].Retired, k.Correct[0].Retired = &feed.Retired{Epoch: epoch, Number: 1, Hash: feed.Hash{1}}, &feed.Retired{Number: 2}
	f.Add(k.Text())
	f.Fuzz(func(t *testing.T, text string) {
		k, err := feed.ParseKeySet(text)
		if err == nil && k.Text() != text {
			t.Fatalf("%q was written as %q", text, k.Text())
		}
	})
}
