package ingest

import (
	"fmt"
	"strings"
	"testing"

	"ocspfleet/ops/ingest/syntax"
)

// oddFiles are what people's files were like, named after what was wrong with them.
var oddFiles = []reading{
	{"BOM before index.txt", "openssl-index", "\uFEFFV\t301231235959Z\t\t0A\tunknown\t/CN=x\r\n", nil, []string{"1: 0a until 2030-12-31T23:59:59Z"}},
	{"BOM before NDJSON", "ndjson", "\uFEFF{\"serial\":\"0a\",\"not_after\":\"2030-12-31T23:59:59Z\",\"status\":\"good\"}\r\n", nil, []string{"1: 0a until 2030-12-31T23:59:59Z"}},
	{"BOM before step-ca's array", "step-ca", "\uFEFF[{\"Serial\":\"10\",\"RevokedAt\":\"2026-01-01T12:00:00Z\"}]", nil, []string{"row 1: 0a revoked 2026-01-01T12:00:00Z "}},
	{
		"BOM before a dump", "cacert", "\uFEFF-- MySQL dump 10.13\r\nINSERT INTO emailcerts (serial,expire,revoked) VALUES ('0A','2030-12-31 23:59:59','0');\r\n-- Dump completed on x\r\n", nil,
		[]string{"2 row 1: 0a until 2030-12-31T23:59:59Z"},
	},
	{"UTF-16 by PowerShell", "csv", "\xff\xfes\x00e\x00r\x00", nil, []string{syntax.ErrUTF16.Error()}},
	{"one newline as index.txt", "openssl-index", "\n", nil, []string{errNothing.Error()}},
	{"one newline as NDJSON", "ndjson", "\r\n", nil, []string{errNothing.Error()}},
	{"one newline as step-ca's", "step-ca", "\n", nil, []string{errNothing.Error()}},
	{"one newline as EJBCA's", "ejbca", "\n", nil, []string{"1: lacks the column serialNumber: want the names of the columns in the first line, serialNumber, status, expireDate, revocationDate, revocationReason among them"}},
	{"one newline as certificates", "certificates", "\n", nil, []string{"row 1: is neither PEM nor a certificate in DER"}},
	{"one newline as a CRL", "crl", "\n", nil, []string{"it is neither DER nor PEM of type X509 CRL"}},
	{"an empty file", "openssl-index", "", nil, []string{"it is empty"}},
	{"the names of columns alone", "csv", ownHead, nil, []string{errNothing.Error()}},
	{"an empty array", "step-ca", "[]", nil, []string{errNothing.Error()}},
	{
		"a dump without the tables", "cacert", "-- MySQL dump 10.13\nINSERT INTO `users` VALUES (1,'x');\n-- Dump completed on 2026-11-22\n", nil,
		[]string{"the dump has no row of domaincerts, emailcerts, orgdomaincerts, orgemailcerts: is it the right one?"},
	},
	{
		"EJBCA's rows under an earlier certificate of the key", "ejbca",
		ejbcaHead + "10,20,1925078399000,-1,-1," + strings.Repeat("AB", 20) + "\n11,20,1925078399000,-1,-1," + strings.Repeat("cd", 20) + "\n",
		func(o *Options) { o.Fingerprints = []string{strings.Repeat("ab", 20)} },
		[]string{
			"2: 0a until 2031-01-01T23:59:59Z",
			"skipped 3: another issuer's (cAFingerprint " + strings.Repeat("cd", 20) + ")",
		},
	},
	{
		"NoConflictCertificateData: the newest updateTime counts", "ejbca",
		"serialNumber,status,expireDate,revocationDate,revocationReason,updateTime\n" +
			"10,20,1925078399000,-1,-1,1767268700000\n10,40,1925078399000,1767268800000,1,1767268900000\n10,40,1925078399000,1767268800000,6,1767268800000\n" +
			"11,20,1925078399000,-1,-1,1767268700000\n",
		nil,
		[]string{"3: 0a until 2031-01-01T23:59:59Z revoked 2026-01-01T12:00:00Z keyCompromise", "5: 0b until 2031-01-01T23:59:59Z"},
	},
	{
		"two words of one updateTime", "ejbca",
		"serialNumber,status,expireDate,revocationDate,revocationReason,updateTime\n" +
			"10,20,1925078399000,-1,-1,1767268700000\n10,40,1925078399000,1767268800000,1,1767268700000\n",
		nil,
		[]string{"3: serial 0a stands in line 2 already, and says something else"},
	},
	{
		"CFSSL without an AKI, of one CA", "cfssl",
		"serial_number,authority_key_identifier,ca_label,status,reason,expiry,revoked_at\n10,,,good,0,2030-12-31 23:59:59+00,\n11,,,revoked,1,2030-12-31 23:59:59+00,2026-01-01 12:00:00+00\n", nil,
		[]string{"2: 0a until 2030-12-31T23:59:59Z", "3: 0b until 2030-12-31T23:59:59Z revoked 2026-01-01T12:00:00Z keyCompromise"},
	},
	{
		"CFSSL without an AKI, beside one that has it", "cfssl",
		"serial_number,authority_key_identifier,ca_label,status,reason,expiry,revoked_at\n10,,,good,0,2030-12-31 23:59:59+00,\n11,00ff,,good,0,2030-12-31 23:59:59+00,\n", nil,
		[]string{"2: authority_key_identifier is empty, and the file has rows of several CAs: export this CA's alone (by ca_label), or with the column pem"},
	},
	{
		"CFSSL without an AKI, of two labels", "cfssl",
		"serial_number,authority_key_identifier,ca_label,status,reason,expiry,revoked_at\n10,,a,good,0,2030-12-31 23:59:59+00,\n11,,b,good,0,2030-12-31 23:59:59+00,\n", nil,
		[]string{
			"2: authority_key_identifier is empty, and the file has rows of several CAs: export this CA's alone (by ca_label), or with the column pem",
			"3: authority_key_identifier is empty, and the file has rows of several CAs: export this CA's alone (by ca_label), or with the column pem",
		},
	},
	{
		"step-ca: serials as people typed them", "step-ca",
		"{\"Serial\":\"0x0A\",\"RevokedAt\":\"2026-01-01T12:00:00Z\"}\n{\"Serial\":\"00:FF\",\"RevokedAt\":\"2026-01-01T12:00:00Z\"}\n" +
			"{\"Serial\":\"12\",\"RevokedAt\":\"2026-01-01T12:00:00Z\"}\n{\"Serial\":\"3e\",\"RevokedAt\":\"2026-01-01T12:00:00Z\"}\n", nil,
		[]string{"1: 0a revoked 2026-01-01T12:00:00Z ", "2: 00ff revoked 2026-01-01T12:00:00Z ", "3: 0c revoked 2026-01-01T12:00:00Z ", "4: 3e revoked 2026-01-01T12:00:00Z "},
	},
	{
		"step-ca: a name as the serial", "step-ca", "{\"Serial\":\"the old laptop\",\"RevokedAt\":\"2026-01-01T12:00:00Z\"}\n", nil,
		[]string{`1: serial "the old laptop": is no number, and so revokes nothing there: revoke by serial what was meant, and leave this row out`},
	},
}

func TestOddFilesAreReadOrNamed(t *testing.T) {
	readsAll(t, oddFiles)
}

// Twenty serials without a digit from a to f were written in decimal digits.
func TestDecimalSerialsAreWarnedOf(t *testing.T) {
	ca, store := newAuthority(t, "CA one"), master(t)
	text := ownHead
	for i := range manyRows {
		text += fmt.Sprintf("9%038d,2030-12-31T23:59:59Z,good,,\n", i)
	}
	for want, more := range map[int]string{1: "", 0: "9f,2030-12-31T23:59:59Z,good,,\n"} {
		f, err := Open(t.Context(), store, []string{keep(t, "file", []byte(text+more))}, ca.options("csv"))
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Warnings) != want {
			t.Errorf("warnings %q, want %d", f.Warnings, want)
		}
		f.Close()
	}
}
