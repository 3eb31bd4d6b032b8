package ingest

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	ownHead   = "serial,not_after,status,revoked_at,reason\n"
	ejbcaHead = "serialNumber,status,expireDate,revocationDate,revocationReason,cAFingerprint\n"
	rootHead  = "serial\trootcert\texpire\trevoked\n"
	two159    = "730750818665451459101842416358141509827966271488" // 2^159, 21 octets in DER
)

// reading is a file of one form, and what is understood of it or said against it. KEY in
// the text is the CA's key id.
type reading struct {
	name, form, text string
	adjust           func(*Options)
	want             []string
}

// texts are files of every form that consists of text, with what is to be
// understood of each, or what is to be said against it.
var texts = []reading{
	{
		"our own", "csv",
		ownHead + "0a,2030-12-31T23:59:59Z,good,,\n00ff,2030-12-31T23:59:59Z,revoked,2026-01-01T12:00:00Z,keyCompromise\n0b,2030-12-31T23:59:59Z,revoked,2026-01-01T12:00:00Z,\n",
		nil,
		[]string{
			"2: 0a until 2030-12-31T23:59:59Z", "3: 00ff until 2030-12-31T23:59:59Z revoked 2026-01-01T12:00:00Z keyCompromise",
			"4: 0b until 2030-12-31T23:59:59Z revoked 2026-01-01T12:00:00Z ",
		},
	},
	{
		"CRLF, quotes, a mark of byte order, columns in another order", "csv",
		"\uFEFFstatus,\"serial\",not_after\r\ngood,\"0a\",2030-12-31T23:59:59Z\r\n\r\n", nil,
		[]string{"2: 0a until 2030-12-31T23:59:59Z"},
	},
	{
		"bad rows of CSV", "csv",
		ownHead + strings.Join([]string{
			"0a,2030-12-31T23:59:59Z,good,,", "0a,2031-12-31T23:59:59Z,good,,", "0b,2030-12-31,good,,", "0c,2030-12-31T23:59:59.5Z,good,,",
			"0d,2030-12-31T23:59:59Z,bad,,", "0e,2030-12-31T23:59:59Z,good,2026-01-01T12:00:00Z,", "0f,2030-12-31T23:59:59Z,revoked,,",
			"10,2030-12-31T23:59:59Z,revoked,2999-01-01T12:00:00Z,", "11,2030-12-31T23:59:59Z,revoked,2026-01-01T12:00:00Z,boredom",
			"-12,2030-12-31T23:59:59Z,good,,", "008000000000000000000000000000000000000000,2030-12-31T23:59:59Z,good,,", "1\x003,2030-12-31T23:59:59Z,good,,",
			"14,2030-12-31T23:59:59Z,good,", "\xff\xfe,2030-12-31T23:59:59Z,good,,", "15,1970-01-01T00:00:00Z,good,,", "1\"\"6,2030-12-31T23:59:59Z,good,,",
			"\"17\"x,2030-12-31T23:59:59Z,good,,", strings.Repeat("8", 70000) + ",2030-12-31T23:59:59Z,good,,", "18,2030-12-31T23:59:59Z,good,,",
		}, "\n") + "\n",
		nil,
		[]string{
			`3: serial 0a stands in line 2 already, and says something else`,
			`4: not_after "2030-12-31": want a time in whole seconds such as 2026-11-22T15:04:05Z`,
			`5: not_after "2030-12-31T23:59:59.5Z": want a time in whole seconds such as 2026-11-22T15:04:05Z`,
			`6: status "bad": want good or revoked`,
			`7: is good and has a revocation time or reason`,
			`8: revoked_at "": want a time in whole seconds such as 2026-11-22T15:04:05Z`,
			`9: revocation time 2999-01-01T12:00:00Z lies in the future`,
			`10: reason "boredom": is none of RFC 5280's`,
			`11: serial "-12": is negative (RFC 5280 section 4.1.2.2)`,
			`12: serial 008000000000000000000000000000000000000000: has 21 octets, more than 20 (RFC 5280 section 4.1.2.2)`,
			`13: has a NUL octet`,
			`14: has 4 fields, want 5 as in the first line`,
			`15: serial "\xff\xfe": want hexadecimal digits`,
			`16: expiry 1970-01-01T00:00:00Z lies before 1971`,
			`17: has a quote inside a field that does not begin with one`,
			`18: has text after a closing quote`,
			`19: is longer than 64 KiB`,
		},
	},
	{"cut CSV", "csv", ownHead + "0a,2030-12-31T23:59:59Z,good,,", nil, []string{"2: is cut short: the file does not end with a line end"}},
	{"an open quote", "csv", ownHead + "\"0a,2030-12-31T23:59:59Z,good,,\n0b,x\n", nil, []string{"2: has a quote that is never closed"}},
	{"no columns", "csv", "\n", nil, []string{"1: lacks the column serial: want the names of the columns in the first line, serial, not_after, status among them"}},
	{
		"a column lacks", "csv", "serial,status\n0a,good\n", nil,
		[]string{"1: lacks the column not_after: want the names of the columns in the first line, serial, not_after, status among them"},
	},
	{"a column twice", "csv", "serial,Serial,not_after,status\n", nil, []string{`1: names the column "serial" twice`}},
	{"UTF-16", "csv", "s\x00e\x00r\x00i\x00a\x00l\x00\n\x00", nil, []string{"1: has a NUL octet"}},
	{
		"another issuer's", "csv", "issuer,serial,not_after,status\ntwo,0a,2030-12-31T23:59:59Z,good\n", nil,
		[]string{`none of its certificates is of issuer "one" (1 of other issuers): is it the right file?`},
	},
	{
		"our own JSON", "ndjson",
		`{"issuer":"one","serial":"0a","not_after":"2030-12-31T23:59:59Z","status":"good","revoked_at":null,"reason":null}` + "\n" +
			`{"serial":"0b","not_after":"2030-12-31T23:59:59Z","status":"revoked","revoked_at":"2026-01-01T12:00:00Z","reason":"certificateHold"}` + "\n",
		nil,
		[]string{"1: 0a until 2030-12-31T23:59:59Z", "2: 0b until 2030-12-31T23:59:59Z revoked 2026-01-01T12:00:00Z certificateHold"},
	},
	{
		"bad JSON", "ndjson", "[]\n{\"serial\":\"0a\"\n{\"serial\":\"0a\",\"serial\":\"0b\"}\n{\"name\":\"x\"}\n{\"serial\":7}\n{} {}\n{\"serial\":\"0a\"}\n", nil,
		[]string{
			"1: is no JSON object", "2: is no JSON object", `3: names "serial" twice`,
			`4: has the unknown name "name": want issuer, serial, not_after, status, revoked_at, reason`,
			"5: serial: want a text or null", "6: goes on after the JSON object", `7: not_after "": want a time in whole seconds such as 2026-11-22T15:04:05Z`,
		},
	},
	{
		"CAcert, mysql --batch", "cacert",
		rootHead + "0A\t1\t2030-12-31 23:59:59\t0000-00-00 00:00:00\n0B\t1\t2030-12-31 23:59:59\t2026-01-01 12:00:00\n0C\t1\t2030-12-31 23:59:59\t1970-01-01 10:00:01\n" +
			"0D\t2\t2030-12-31 23:59:59\t0\n\t1\tNULL\tNULL\n0E\t1\t2030-06-30 23:59:59\t0\n",
		func(o *Options) { o.RootCert, o.Location = 1, zone("Europe/Vienna") },
		[]string{
			"2: 0a until 2030-12-31T22:59:59Z", "3: 0b until 2030-12-31T22:59:59Z revoked 2026-01-01T11:00:00Z ",
			"4: 0c until 2030-12-31T22:59:59Z", "7: 0e until 2030-06-30T21:59:59Z",
			"pending 4: serial 0c: its revocation was asked for and not done: imported as not revoked",
			"skipped 5: another issuer's", "skipped 6: not issued yet: no serial",
		},
	},
	{
		"CAcert without --rootcert", "cacert", rootHead + "0A\t1\t2030-12-31 23:59:59\t0\n", nil,
		[]string{"2: has the column rootcert: say which one this issuer is (--rootcert 1 for class 1, 2 for class 3)"},
	},
	{
		"CAcert by mysqldump", "cacert",
		"-- MySQL dump 10.13\nDROP TABLE IF EXISTS `emailcerts`;\nCREATE TABLE `emailcerts` (\n  `id` int(11) NOT NULL DEFAULT '0',\n  `serial` varchar(50),\n  `CN` varchar(255),\n" +
			"  `expire` datetime,\n  `revoked` datetime,\n  `rootcert` int(2),\n  PRIMARY KEY (`id`),\n  KEY `x` (`serial`,`CN`)\n) ENGINE=InnoDB;\n/*!40000 ALTER TABLE `emailcerts` DISABLE KEYS */;\n" +
			"INSERT INTO `emailcerts` VALUES (1,'0A','O\\'Neil, (\\\"x\\\") ;','2030-12-31 23:59:59','0000-00-00 00:00:00',1),(2,'0B','it''s','2030-12-31 23:59:59','2026-01-01 12:00:00',1);\n" +
			"INSERT INTO `gpg` VALUES (1,'x');\nINSERT INTO domaincerts (serial,expire,revoked,rootcert) VALUES ('0C','2030-12-31 23:59:59','1970-01-01 10:00:01',1);\n-- Dump completed on 2026-11-22\n",
		func(o *Options) { o.RootCert = 1 },
		[]string{
			"14 row 1: 0a until 2030-12-31T23:59:59Z", "14 row 2: 0b until 2030-12-31T23:59:59Z revoked 2026-01-01T12:00:00Z ", "16 row 1: 0c until 2030-12-31T23:59:59Z",
			"pending 16 row 1: serial 0c: its revocation was asked for and not done: imported as not revoked",
		},
	},
	{
		"a dump that does not tell its columns", "cacert", "INSERT INTO `emailcerts` VALUES (1,'0A');\n", nil,
		[]string{"1: inserts into emailcerts, whose columns it does not tell: want a dump with CREATE TABLE, or by mysqldump --complete-insert"},
	},
	{
		"CAcert by mysqldump --complete-insert", "cacert",
		"INSERT INTO emailcerts (id,serial,CN,expire,revoked,rootcert) VALUES (1,'0A','O\\'Neil, (\\\"x\\\") ;','2030-12-31 23:59:59','0000-00-00 00:00:00',1),(2,'0B','it''s','2030-12-31 23:59:59','2026-01-01 12:00:00',1);\n" +
			"INSERT INTO domaincerts (serial,expire,revoked,rootcert) VALUES ('0C','2030-12-31 23:59:59','1970-01-01 10:00:01',1),('0D','2030-12-31 23:59:59',NULL,2);\n",
		func(o *Options) { o.RootCert = 1 },
		[]string{
			"1 row 1: 0a until 2030-12-31T23:59:59Z", "1 row 2: 0b until 2030-12-31T23:59:59Z revoked 2026-01-01T12:00:00Z ", "2 row 1: 0c until 2030-12-31T23:59:59Z",
			"pending 2 row 1: serial 0c: its revocation was asked for and not done: imported as not revoked", "skipped 2 row 2: another issuer's",
		},
	},
	{
		"a dump cut between two statements", "cacert", "-- MariaDB dump 10.19\nINSERT INTO emailcerts (serial,expire,revoked) VALUES ('0A','2030-12-31 23:59:59','0');\n", nil,
		[]string{"3: is cut short: the dump ends too early"},
	},
	{
		"a dump cut in a text", "cacert", "INSERT INTO emailcerts (serial,expire,revoked) VALUES ('0A','2030-12-31 23:59:59','0'),('0B','2030", nil,
		[]string{"1: is cut short: the dump ends too early"},
	},
	{
		"CFSSL", "cfssl",
		"serial_number,authority_key_identifier,ca_label,status,reason,expiry,revoked_at,pem\n" +
			"10,KEY,,good,0,2030-12-31 23:59:59+00,0001-01-01 00:00:00+00,\n255,KEY,,revoked,1,2030-12-31 23:59:59+00,2026-01-01 12:00:00+01,\"several\nlines\"\n" +
			"11,00ff,,good,0,2030-12-31 23:59:59+00,,\n",
		nil,
		[]string{
			"2: 0a until 2030-12-31T23:59:59Z", "3: 00ff until 2030-12-31T23:59:59Z revoked 2026-01-01T11:00:00Z keyCompromise",
			"skipped 5: another issuer's",
		},
	},
	{
		"bad rows of CFSSL", "cfssl",
		"serial_number,authority_key_identifier,status,reason,expiry,revoked_at\n" + two159 + ",KEY,good,0,2030-12-31 23:59:59,\n" +
			"0a,KEY,good,0,2030-12-31 23:59:59,\n10,xx,good,0,2030-12-31 23:59:59,\n10,KEY,expired,0,2030-12-31 23:59:59,\n10,KEY,revoked,7,2030-12-31 23:59:59,2026-01-01 12:00:00\n" +
			"-10,KEY,good,0,2030-12-31 23:59:59,\n10,KEY,revoked,8,2030-12-31 23:59:59,2026-01-01 12:00:00\n",
		nil,
		[]string{
			`2: serial 008000000000000000000000000000000000000000: has 21 octets, more than 20 (RFC 5280 section 4.1.2.2)`,
			`3: serial "0a": want at most 64 decimal digits`, `4: authority_key_identifier "xx": want hexadecimal digits`,
			`5: status "expired": want good or revoked`, `6: reason "7": is none of RFC 5280's numbers`,
			`7: serial "-10": is negative (RFC 5280 section 4.1.2.2)`, `8: reason "8" (removeFromCRL): is no revocation (RFC 5280 section 5.3.1)`,
		},
	},
	{
		"EJBCA", "ejbca",
		ejbcaHead + "10,20,1925078399000,-1,-1,\n11,21,1925078399000,-1,-1,\n12,40,1925078399000,1767268800123,0,\n13,40,1925078399000,1767268800000,6,\n" +
			"14,60,1577836800000,1546300800000,4,\n15,60,1577836800000,-1,-1,\n16,20,1925078399000,1767268800000,8,\n17,20,1925078399000,-1,-1,aabb\n",
		nil,
		[]string{
			"2: 0a until 2031-01-01T23:59:59Z", "3: 0b until 2031-01-01T23:59:59Z", "4: 0c until 2031-01-01T23:59:59Z revoked 2026-01-01T12:00:00Z ",
			"5: 0d until 2031-01-01T23:59:59Z revoked 2026-01-01T12:00:00Z certificateHold", "6: 0e until 2020-01-01T00:00:00Z revoked 2019-01-01T00:00:00Z superseded",
			"7: 0f until 2020-01-01T00:00:00Z", "8: 10 until 2031-01-01T23:59:59Z", "skipped 9: another issuer's",
		},
	},
	{
		"bad rows of EJBCA", "ejbca", ejbcaHead + "0a,20,1925078399000,-1,-1,\n11,40,1925078399000,1767268800000,-1,\n12,99,1925078399000,-1,-1,\n13,20,soon,-1,-1,\n14,40,1925078399000,-1,1,\n", nil,
		[]string{
			`2: serial "0a": want at most 64 decimal digits (--serial-base says how they are written)`, "3: status 40: is revoked, with the reason -1, not revoked",
			`4: status "99": want one of 0, 10, 11, 20, 21, 30, 40, 50, 60`, `5: expireDate "soon": want milliseconds since 1970`, "6: revocation time 1969-12-31T23:59:59Z lies before 1971",
		},
	},
	{
		"EJBCA with hexadecimal serials", "ejbca", ejbcaHead + "10,20,1925078399000,-1,-1,\n", func(o *Options) { o.SerialBase = 16 },
		[]string{"2: 10 until 2031-01-01T23:59:59Z"},
	},
	{
		"step-ca's revocations", "step-ca",
		`{"Serial":"10","ProvisionerID":"x","ReasonCode":1,"Reason":"lost","RevokedAt":"2026-01-01T12:00:00Z","ExpiresAt":"2030-12-31T23:59:59Z","TokenID":"","MTLS":false}` + "\n" +
			`{"Serial":"11","ReasonCode":0,"RevokedAt":"2026-01-01T12:00:00.5Z","ExpiresAt":"0001-01-01T00:00:00Z"}` + "\n",
		nil,
		[]string{"1: 0a until 2030-12-31T23:59:59Z revoked 2026-01-01T12:00:00Z keyCompromise", "2: 0b revoked 2026-01-01T12:00:00Z "},
	},
	{
		"bad objects of step-ca", "step-ca", "{}\nx\n{\"nkey\":\"\",\"nvalue\":\"?\"}\n{\"Serial\":\"10\",\"ReasonCode\":11,\"RevokedAt\":\"2026-01-01T12:00:00Z\"}\n", nil,
		[]string{
			"1: is neither a revocation (Serial, RevokedAt) nor a certificate (Certificate, or nvalue)",
			"2: is no JSON object of step-ca: invalid character 'x' looking for beginning of v...", "3: nvalue is no base64", `4: reason "11": is none of RFC 5280's numbers`,
		},
	},
	{"a cut array of step-ca", "step-ca", `[{"Serial":"10","RevokedAt":"2026-01-01T12:00:00Z"},{"Ser`, nil, []string{"row 2: is no JSON: the array is cut short"}},
	{
		"a gigantic object in an array", "step-ca", `[{"Serial":"` + strings.Repeat("1", 1<<20) + `"}]`, nil,
		[]string{"row 1: is no JSON: an object is longer than 64 KiB"},
	},
}

func zone(name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	return z
}

func readsAll(t *testing.T, cases []reading) {
	t.Helper()
	ca, store := newAuthority(t, "CA one"), master(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := ca.options(c.form)
			if c.adjust != nil {
				c.adjust(&o)
			}
			text := strings.ReplaceAll(c.text, "KEY", hex.EncodeToString(ca.cert.SubjectKeyId))
			got := say(t, store, keep(t, "file", []byte(text)), o)
			for i := range got { // the path differs from run to run
				if _, after, found := strings.Cut(got[i], " as "+c.form+": "); found {
					got[i] = after
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Every form is read as its program means it, and every bad row is named by its
// place and the exact reason.
func TestTextFormsAreReadAsTheirProgramsMeanThem(t *testing.T) {
	readsAll(t, texts)
}

// A certificate and its revocation become one row, in either order.
func TestStepCertificateAndRevocationAreOneRow(t *testing.T) {
	ca, store := newAuthority(t, "CA one"), master(t)
	b64 := base64.StdEncoding.EncodeToString
	revoked := func(serial int) string {
		return fmt.Sprintf(`{"Serial":"%d","ReasonCode":4,"RevokedAt":"2026-01-01T12:00:00Z","ExpiresAt":"0001-01-01T00:00:00Z"}`, serial)
	}
	objects := []string{
		fmt.Sprintf(`{"nkey":"MTA=","nvalue":%q}`, b64(ca.leaf(t, big.NewInt(10)))),
		fmt.Sprintf(`{"nkey":"MTA=","nvalue":%q}`, b64([]byte(revoked(10)))),
		revoked(11),
		fmt.Sprintf(`{"Certificate":%q}`, b64(ca.leaf(t, big.NewInt(11)))),
		fmt.Sprintf(`{"Certificate":%q}`, b64(ca.leaf(t, big.NewInt(12)))),
		fmt.Sprintf(`{"Certificate":%q}`, b64(newAuthority(t, "CA two").leaf(t, big.NewInt(13)))),
	}
	const end = "2026-11-23T12:00:00Z"
	want := []string{
		"2: 0a until " + end + " revoked 2026-01-01T12:00:00Z superseded", "3: 0b until " + end + " revoked 2026-01-01T12:00:00Z superseded",
		"5: 0c until " + end, "skipped 6: another issuer's",
	}
	if diff := cmp.Diff(want, say(t, store, keep(t, "step.json", []byte(strings.Join(objects, "\n")+"\n")), ca.options("step-ca"))); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	got := say(t, store, keep(t, "step.json", []byte("["+strings.Join(objects, ",\n")+"]")), ca.options("step-ca"))
	if len(got) != len(want) || !strings.HasPrefix(got[0], "row 2: 0a") {
		t.Errorf("array: %q", got)
	}
}

// A row of CFSSL that has its certificate beside it must agree with it.
func TestCFSSLRowIsProvenByItsCertificate(t *testing.T) {
	ca, other, store := newAuthority(t, "CA one"), newAuthority(t, "CA two"), master(t)
	row := func(serial, expiry string, der []byte) string {
		return fmt.Sprintf("%s,%x,good,0,%s,,\"%s\"\n", serial, ca.cert.SubjectKeyId, expiry, asPEM("CERTIFICATE", der))
	}
	leaf := ca.leaf(t, big.NewInt(10))
	text := "serial_number,authority_key_identifier,status,reason,expiry,revoked_at,pem\n" +
		row("10", "2026-11-23 12:00:00+00", leaf) + row("11", "2026-11-23 12:00:00+00", leaf) + row("10", "2026-11-23 13:00:00", leaf) +
		row("10", "2026-11-23 12:00:00+00", other.leaf(t, big.NewInt(10)))
	got := say(t, store, keep(t, "cfssl.csv", []byte(text)), ca.options("cfssl"))
	for i := range got {
		_, got[i], _ = strings.Cut(got[i], ": ")
	}
	want := []string{
		"pem has the serial 0a, not 0b", "pem ends at 2026-11-23T12:00:00Z, not at 2026-11-23T13:00:00Z: is the time zone right (--timezone)?",
		"pem is another issuer's certificate",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
