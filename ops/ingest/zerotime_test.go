package ingest

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is revoked at the zero time of Go, or before any CA's first day, is a bad row in
// every form: it was imported as good.
func TestRevokedAtTheZeroTimeIsABadRow(t *testing.T) {
	ca, store := newAuthority(t, "CA one"), master(t)
	const zero, before = "0001-01-01T00:00:00Z", "1970-12-31T23:59:59Z"
	cfsslHead := "serial_number,authority_key_identifier,status,reason,expiry,revoked_at\n"
	crl := func(at string) string { return string(ca.rawCRL(t, 7, []rawEntry{{[]byte{10}, at, 1}})) }
	said := func(place, at string) []string {
		return []string{place + ": revocation time " + at + " lies before 1971"}
	}
	for _, c := range []struct {
		form, text string
		want       []string
	}{
		{"csv", ownHead + "6e0001,2030-12-31T23:59:59Z,revoked," + zero + ",keyCompromise\n", said("2", zero)},
		{"csv", ownHead + "6e0001,2030-12-31T23:59:59Z,revoked," + before + ",\n", said("2", before)},
		{"csv", ownHead + "6e0001," + zero + ",good,,\n", []string{"2: expiry " + zero + " lies before 1971"}},
		{"csv", ownHead + "6e0001," + zero + ",revoked,2026-01-01T00:00:00Z,\n", []string{"2: expiry " + zero + " lies before 1971"}},
		{"ndjson", `{"serial":"6e","not_after":"2030-12-31T23:59:59Z","status":"revoked","revoked_at":"` + zero + `"}` + "\n", said("1", zero)},
		{"openssl-index", "R\t301231235959Z\t00010101000000Z\t6E\tunknown\t/CN=x\n", []string{`1: revocation time "00010101000000Z": lies before 1971`}},
		{"cfssl", cfsslHead + "10,KEY,revoked,1,2030-12-31 23:59:59+00,0001-01-01 00:00:00+00\n", said("2", zero)},
		{"cacert", "serial\texpire\trevoked\n0A\t2030-12-31 23:59:59\t0001-01-01 00:00:00\n", said("2", zero)},
		{"ejbca", ejbcaHead + "10,40,1925078399000,-62135596800000,1,\n", said("2", zero)},
		{"step-ca", `{"Serial":"10","RevokedAt":"` + zero + `"}` + "\n", said("1", zero)},
		{"crl", crl("00010101000000Z"), said("row 1", zero)},
		{"crl", crl("19701231235959Z"), said("row 1", before)},
	} {
		text := strings.ReplaceAll(c.text, "KEY", hex.EncodeToString(ca.cert.SubjectKeyId))
		if diff := cmp.Diff(c.want, say(t, store, keep(t, "file", []byte(text)), ca.options(c.form))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.form, diff)
		}
	}
}
