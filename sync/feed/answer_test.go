package feed_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/publisherdb"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/publish"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// What is signed comes back as it was, whatever it says.
func TestAnswerComesBack(t *testing.T) {
	keys := feedtest.AnswerKeys(t)
	rapid.Check(t, func(r *rapid.T) {
		serial := append([]byte{0x01}, rapid.SliceOfN(rapid.Byte(), 0, 19).Draw(r, "serial")...)
		asked := publisherdb.Asked{
			Epoch: epoch, Position: rapid.Int64Range(0, 1<<40).Draw(r, "position"), AsOf: feedtest.Noon, Issued: rapid.Bool().Draw(r, "issued"),
			Status: db.Status{Reason: db.ReasonNone},
		}
		if asked.Issued {
			asked.Status.NotAfter = time.Unix(rapid.Int64Range(1, 1<<33).Draw(r, "end"), 0).UTC()
			if rapid.Bool().Draw(r, "revoked") {
				asked.Status.Revoked, asked.Status.RevokedAt = true, feedtest.Noon.Truncate(time.Second)
				asked.Status.Reason = rapid.SampledFrom([]db.Reason{db.ReasonNone, db.ReasonKeyCompromise, db.ReasonCertificateHold}).Draw(r, "reason")
			}
		}
		want := publish.NewAnswer(origin, 2, [32]byte{7}, serial, asked)
		got, err := keys.OpenAnswer(signed(t, want, "two"))
		if err != nil {
			r.Fatal(err)
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			r.Fatalf("(-want +got)\n%s", diff)
		}
	})
}

func TestAnswerGolden(t *testing.T) {
	golden(t, "keys-2", "answer", "two", feedtest.AnswerKeys(t), feedtest.Answer(), (*feed.KeySet).OpenAnswer)
}

// A key signs what it is named for and nothing else.
func TestKeysForAnswersAndForTheFeedDoNotMix(t *testing.T) {
	keys := feedtest.AnswerKeys(t)
	if _, err := keys.OpenAnswer(signed(t, feedtest.Answer(), "one")); !errors.Is(err, feed.ErrForged) {
		t.Errorf("an answer by the feed's key: %v", err)
	}
	c := feedtest.Checkpoint(8)
	note, err := c.Sign(feedtest.KeyOf(t, "two"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.OpenCheckpoint(note); !errors.Is(err, feed.ErrForged) {
		t.Errorf("a checkpoint by the key for answers: %v", err)
	}
	keys.Answers = append(keys.Answers, keys.Keys[0])
	if _, err := keys.Sign(feedtest.KeyOf(t, "root")); err == nil {
		t.Error("one key is named for both")
	}
	banned := feedtest.AnswerKeys(t)
	banned.Answers, banned.Banned = nil, []string{feedtest.KeyOf(t, "two").Verifier()}
	if _, err := banned.OpenAnswer(signed(t, feedtest.Answer(), "two")); !errors.Is(err, feed.ErrForged) {
		t.Errorf("an answer by a banned key: %v", err)
	}
}

// No octet of a signed answer can be changed.
func TestEveryOctetOfAnAnswerCounts(t *testing.T) {
	everyOctetCounts(t, signed(t, feedtest.Answer(), "two"), feedtest.AnswerKeys(t).OpenAnswer)
}

func TestAnswerIsRefused(t *testing.T) {
	keys := feedtest.AnswerKeys(t)
	for name, change := range map[string]func(*feed.Answer){
		"of a newer key set":  func(a *feed.Answer) { a.KeySet = 3 },
		"of another epoch":    func(a *feed.Answer) { a.Epoch++ },
		"of another feed":     func(a *feed.Answer) { a.Origin = "other.example" },
		"after the key's end": func(a *feed.Answer) { a.AsOf = a.AsOf.AddDate(2, 0, 0); a.Until = a.AsOf.Add(time.Minute) },
	} {
		a := feedtest.Answer()
		change(&a)
		if _, err := keys.OpenAnswer(signed(t, a, "two")); err == nil {
			t.Errorf("%s: it is believed", name)
		}
	}
	for name, change := range map[string]func(*feed.Answer){
		"lives too long":     func(a *feed.Answer) { a.Until = a.AsOf.Add(feed.AnswerLife + time.Microsecond) },
		"has ended":          func(a *feed.Answer) { a.Until = a.AsOf },
		"of no serial":       func(a *feed.Answer) { a.Serial = nil },
		"of a negative one":  func(a *feed.Answer) { a.Serial = db.Serial{0x80} },
		"of a long one":      func(a *feed.Answer) { a.Serial = bytes.Repeat([]byte{1}, 21) },
		"of a padded serial": func(a *feed.Answer) { a.Serial = db.Serial{0, 1} },
		"a name of its own":  func(a *feed.Answer) { a.Origin = "CA.example" },
	} {
		a := feedtest.Answer()
		change(&a)
		if _, err := a.Sign(feedtest.KeyOf(t, "two")); err == nil {
			t.Errorf("%s: it is signed", name)
		}
	}
	a := feedtest.Answer()
	if _, err := feed.ParseAnswer(strings.Replace(a.Text(), "status revoked", "status  revoked", 1)); !errors.Is(err, feed.ErrForm) {
		t.Errorf("two spaces: %v", err)
	}
}

// An answer is good for the question that was asked, and for a copy that lies behind.
func TestAnswersTheQuestion(t *testing.T) {
	issuer, serial, at, now := [32]byte{1}, db.Serial{0x00, 0xff}, db.Horizon{Epoch: epoch, Position: 8}, feedtest.Noon.Add(time.Minute)
	a := feedtest.Answer()
	if err := a.Answers(issuer, serial, at, now); err != nil {
		t.Error(err)
	}
	absent := publish.NewAnswer(origin, 2, issuer, serial, publisherdb.Asked{Epoch: epoch, Position: 7, AsOf: feedtest.Noon})
	if err := absent.Answers(issuer, serial, at, feedtest.Noon.Add(time.Second)); err != nil {
		t.Errorf("that it is absent is no news to a copy that says so, too: %v", err)
	}
	if err := absent.Answers(issuer, serial, at, now); err == nil {
		t.Error("absent for a minute")
	}
	for name, err := range map[string]error{
		"another issuer":          a.Answers([32]byte{2}, serial, at, now),
		"another serial":          a.Answers(issuer, db.Serial{0x01}, at, now),
		"another epoch":           a.Answers(issuer, serial, db.Horizon{Epoch: epoch + 1, Position: 8}, now),
		"the copy's own position": a.Answers(issuer, serial, db.Horizon{Epoch: epoch, Position: 9}, now),
		"an older position":       a.Answers(issuer, serial, db.Horizon{Epoch: epoch, Position: 10}, now),
		"past its end":            a.Answers(issuer, serial, at, feedtest.Noon.Add(feed.AnswerLife)),
	} {
		if !errors.Is(err, feed.ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	a := feedtest.Answer()
	f.Add(a.Text())
	a.Issued = false
	f.Add(a.Text())
	f.Fuzz(func(t *testing.T, text string) {
		if a, err := feed.ParseAnswer(text); err == nil && a.Text() != text {
			t.Fatalf("%q was written as %q", text, a.Text())
		}
	})
}
