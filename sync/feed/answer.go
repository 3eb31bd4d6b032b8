package feed

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"ocspfleet/db"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/mod/sumdb/note"
)

// Answer is the master's answer on one serial that a site's copy does not have, signed by a key
// that the key set names only for answers. It is not a row: it enters no copy.
type Answer struct {
	Origin          string
	KeySet          int64
	Epoch, Position int64
	Issuer          Hash // db.Issuer.Key: SHA-256 of the subject and SubjectPublicKeyInfo
	Serial          db.Serial
	Issued          bool
	Status          db.Status // where Issued; whole seconds
	AsOf            time.Time // the master's clock, in microseconds
	Until           time.Time // not valid from then on
}

const (
	// AnswerLife bounds Until - AsOf.
	AnswerLife = 5 * time.Minute
	// AbsentLife is the life of "not issued": the serial may be issued at any moment.
	AbsentLife = 20 * time.Second

	answerSuffix = "/answer"
)

// ErrAnswer says that an answer does not belong to the question.
var ErrAnswer = errors.New("it does not answer the question")

// Text returns the text to sign.
func (a *Answer) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s\nkeys %d\nepoch %d\nposition %d\nissuer %s\nserial %s\n", a.Origin, answerSuffix, a.KeySet, a.Epoch, a.Position, Base64(a.Issuer), a.Serial)
	switch {
	case !a.Issued:
		b.WriteString("status absent\n")
	case a.Status.Revoked:
		fmt.Fprintf(&b, "status revoked %s %s\nnot_after %s\n", Stamp(a.Status.RevokedAt), reasonName(a.Status.Reason), Stamp(a.Status.NotAfter))
	default:
		fmt.Fprintf(&b, "status good\nnot_after %s\n", Stamp(a.Status.NotAfter))
	}
	fmt.Fprintf(&b, "as_of %s\nuntil %s\n", Stamp(a.AsOf), Stamp(a.Until))
	return b.String()
}

// Sign returns the signed note of an answer.
func (a *Answer) Sign(signer note.Signer) ([]byte, error) {
	if _, err := ParseAnswer(a.Text()); err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return sign(a.Text(), signer)
}

// ParseAnswer reads a text, without a check of its signature.
func ParseAnswer(text string) (*Answer, error) {
	l := &lines{rest: text}
	a := &Answer{Status: db.Status{Reason: db.ReasonNone}}
	a.Origin = l.suffixed(answerSuffix)
	a.KeySet, a.Epoch, a.Position = l.number(l.value("keys")), l.number(l.value("epoch")), l.number(l.value("position"))
	a.Issuer = l.hash(l.value("issuer"))
	a.Serial = l.serial(l.value("serial"))
	a.status(l)
	a.AsOf, a.Until = l.time(l.value("as_of")), l.time(l.value("until"))
	if l.err == nil && (a.Text() != text || l.rest != "") {
		l.err = fmt.Errorf("%w: it is written in another way than ours", errNote)
	}
	if l.err == nil {
		l.err = CheckOrigin(a.Origin)
	}
	if l.err == nil && (!a.AsOf.Before(a.Until) || a.Until.Sub(a.AsOf) > AnswerLife) {
		l.err = fmt.Errorf("%w: it ends within %v after as_of", errNote, AnswerLife)
	}
	if l.err != nil {
		return nil, fmt.Errorf("reading an answer: %w", l.err)
	}
	return a, nil
}

// status reads the lines of status and not_after.
func (a *Answer) status(l *lines) {
	value := l.value("status")
	switch word, rest, _ := strings.Cut(value, " "); {
	case value == "absent":
		return
	case value == "good":
	case word == "revoked":
		a.Status.Revoked = true
		a.Status.RevokedAt, a.Status.Reason = l.revocation(rest)
	default:
		l.fail("status", value)
	}
	a.Issued, a.Status.NotAfter = true, l.time(l.value("not_after"))
}

// OpenAnswer reads an answer that a key for answers in the set has signed. The caller checks
// that it belongs to the question.
func (k *KeySet) OpenAnswer(signed []byte) (*Answer, error) {
	text, key, err := openBy(k.Answers, signed, MaxNote)
	if err != nil {
		return nil, fmt.Errorf("reading an answer: %w", err)
	}
	a, err := ParseAnswer(text)
	if err != nil {
		return nil, err
	}
	if err := k.admit(a.Origin, a.KeySet, a.Epoch, a.AsOf, key); err != nil {
		return nil, fmt.Errorf("reading an answer: %w", err)
	}
	return a, nil
}

// SignedAnswer is a signed Answer with the key set that verifies it; ocspsyncd passes it to
// ocspd.
type SignedAnswer struct {
	Keys []byte // the key set, signed by the root
	Note []byte // the answer, signed
}

var errSignedAnswer = formError("the signed answer is not of the form")

// Marshal writes SEQUENCE { keys UTF8String, answer UTF8String }.
func (s SignedAnswer) Marshal() ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(s.Keys)+len(s.Note)+16))
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, note := range [][]byte{s.Keys, s.Note} {
			b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes(note) })
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("writing a signed answer: %w", err)
	}
	return der, nil
}

// ParseSignedAnswer reads what Marshal wrote.
func ParseSignedAnswer(der []byte) (SignedAnswer, error) {
	in, body, keys, note := cryptobyte.String(der), cryptobyte.String(nil), cryptobyte.String(nil), cryptobyte.String(nil)
	if !in.ReadASN1(&body, asn1.SEQUENCE) || !in.Empty() || !body.ReadASN1(&keys, asn1.UTF8String) ||
		!body.ReadASN1(&note, asn1.UTF8String) || !body.Empty() {
		return SignedAnswer{}, errSignedAnswer
	}
	return SignedAnswer{Keys: keys, Note: note}, nil
}

// Answers says whether an answer may be used now for a serial that a copy at a horizon does not
// have. It must be for that issuer and serial and of the copy's epoch, and not past its end. If
// it says that there is a certificate, it must be newer than the copy, which would have the row
// otherwise.
func (a *Answer) Answers(issuer [32]byte, serial db.Serial, at db.Horizon, now time.Time) error {
	switch {
	case a.Issuer != issuer || string(a.Serial) != string(serial):
		return fmt.Errorf("%w: it is for another certificate", ErrAnswer)
	case a.Epoch != at.Epoch:
		return fmt.Errorf("%w: it is of epoch %d, the copy is of %d", ErrAnswer, a.Epoch, at.Epoch)
	case a.Issued && a.Position <= at.Position:
		return fmt.Errorf("%w: it is of position %d, the copy is at %d", ErrAnswer, a.Position, at.Position)
	case !now.Before(a.Until):
		return fmt.Errorf("%w: it ended at %s", ErrAnswer, Stamp(a.Until))
	}
	return nil
}
