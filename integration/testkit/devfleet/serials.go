package devfleet

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"time"

	"ocspfleet/db"
)

// wishes are the serials that openssl is to issue, and those that nobody may.
type wishes struct {
	good        []db.Serial
	revoked     []wishedRevocation
	neverIssued []db.Serial
}

type wishedRevocation struct {
	serial db.Serial
	flags  []string // of openssl ca -revoke
}

// leaves are issued beside the wishes: one good, one revoked.
const leaves = 2

func (w wishes) issued() int { return len(w.good) + len(w.revoked) + leaves }

// revocations are the ways in which openssl ca revokes.
var revocations = [][]string{
	{}, // no reason given
	{"-crl_reason", "unspecified"},
	{"-crl_reason", "keyCompromise"},
	{"-crl_reason", "CACompromise"},
	{"-crl_reason", "affiliationChanged"},
	{"-crl_reason", "superseded"},
	{"-crl_reason", "cessationOfOperation"},
	{"-crl_hold", "holdInstructionNone"}, // certificateHold
	{"-crl_compromise", "20260101120000Z"},
	{"-crl_CA_compromise", "20260102120000Z"},
	{"-crl_reason", "keyCompromise"},
	{"-crl_reason", "superseded"},
}

const (
	issuedGood  = 30
	neverIssued = 10
)

// wish chooses the serials of one issuer. shared is the one that both issuers
// issue.
func wish(shared db.Serial, sharedRevoked bool) wishes {
	var w wishes
	topBit := newSerial(16)
	topBit[0] |= 0x80
	w.good = append(w.good, newSerial(20), append(db.Serial{0}, topBit...))
	for len(w.good) < issuedGood {
		w.good = append(w.good, newSerial(16))
	}
	for _, flags := range revocations {
		w.revoked = append(w.revoked, wishedRevocation{newSerial(16), flags})
	}
	if sharedRevoked {
		w.revoked = append(w.revoked, wishedRevocation{shared, []string{"-crl_reason", "superseded"}})
	} else {
		w.good = append(w.good, shared)
	}
	for len(w.neverIssued) < neverIssued {
		w.neverIssued = append(w.neverIssued, newSerial(16))
	}
	return w
}

// newSerial returns n random octets, the first one 0x01 to 0x7f: positive, and
// exactly n octets in DER.
func newSerial(n int) db.Serial {
	serial := make(db.Serial, n)
	for serial[0] == 0 {
		_, _ = rand.Read(serial) // never fails: crypto/rand
		serial[0] &= 0x7f
	}
	return serial
}

// The examples of generated certificates that fleet.json names beside the real ones.
const (
	generatedGood    = 1000
	generatedRevoked = 100
)

// generate writes generated.txt, an index as openssl ca keeps one: n certificates
// of which every tenth is revoked. They exist as entries only.
func (i *issuing) generate(n int) error {
	file, err := os.OpenFile(i.file("generated.txt"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("generating certificates: %w", err)
	}
	defer file.Close()
	never := map[string]bool{}
	for _, serial := range i.serial.neverIssued {
		never[serial.String()] = true
	}
	reasons := []string{"", ",keyCompromise", ",affiliationChanged", ",superseded", ",cessationOfOperation"}
	const form = "060102150405Z"
	now := time.Now().UTC()
	out := bufio.NewWriter(file)
	for k := range n {
		serial := newSerial(16).String()
		for never[serial] {
			serial = newSerial(16).String()
		}
		end := now.Add(time.Duration(1+mathrand.IntN(365*24)) * time.Hour).Format(form)
		if k%10 == 9 {
			at := now.Add(-time.Duration(1+mathrand.IntN(30*24*3600)) * time.Second).Format(form)
			fmt.Fprintf(out, "R\t%s\t%s%s\t%s\tunknown\t/CN=generated-%d\n", end, at, reasons[k/10%len(reasons)], strings.ToUpper(serial), k)
		} else {
			fmt.Fprintf(out, "V\t%s\t\t%s\tunknown\t/CN=generated-%d\n", end, strings.ToUpper(serial), k)
		}
	}
	if err := errors.Join(out.Flush(), file.Close()); err != nil {
		return fmt.Errorf("generating certificates: %w", err)
	}
	return nil
}

// readIndex tells of the first certificates of an index.txt, at most so many of
// each kind, as fleet.json tells it. What it says is the oracle of tests, so it
// shares no code with the importer.
func readIndex(path string, maxGood, maxRevoked int, skip map[string]bool) (good []string, revoked []Revoked, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading an index: %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() && (len(good) < maxGood || len(revoked) < maxRevoked) {
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) != 6 {
			return nil, nil, fmt.Errorf("reading %s: %d fields in %q", path, len(fields), lines.Text())
		}
		serial, err := db.ParseSerial(fields[3])
		if err != nil {
			return nil, nil, fmt.Errorf("reading %s: %w", path, err)
		}
		switch {
		case skip[serial.String()]:
		case fields[0] == "V" && len(good) < maxGood:
			good = append(good, serial.String())
		case fields[0] == "R" && len(revoked) < maxRevoked:
			r, err := readRevocation(serial, fields[2])
			if err != nil {
				return nil, nil, fmt.Errorf("reading %s: %w", path, err)
			}
			revoked = append(revoked, r)
		}
	}
	return good, revoked, lines.Err()
}

// indexReasons are the words of openssl ca and the reasons of RFC 5280 they stand for.
var indexReasons = map[string]string{
	"keyCompromise": "keyCompromise", "keyTime": "keyCompromise", "CACompromise": "cACompromise", "CAkeyTime": "cACompromise",
	"affiliationChanged": "affiliationChanged", "superseded": "superseded", "cessationOfOperation": "cessationOfOperation",
	"certificateHold": "certificateHold", "holdInstruction": "certificateHold",
}

func readRevocation(serial db.Serial, field string) (Revoked, error) {
	parts := strings.Split(field, ",")
	at, err := time.Parse("060102150405Z", parts[0])
	if err != nil {
		return Revoked{}, fmt.Errorf("revocation of %s: %w", serial, err)
	}
	r := Revoked{Serial: serial.String(), RevokedAt: at.Format(time.RFC3339)}
	if len(parts) > 1 && parts[1] != "unspecified" {
		reason, known := indexReasons[parts[1]]
		if !known {
			return Revoked{}, fmt.Errorf("revocation of %s: unknown reason %q", serial, parts[1])
		}
		r.Reason = &reason
	}
	return r, nil
}
