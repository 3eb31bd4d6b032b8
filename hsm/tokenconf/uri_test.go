package tokenconf

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestURIAttributesOfRFC7512(t *testing.T) {
	for text, want := range map[string]URI{
		"pkcs11:token=site-a": {Token: "site-a"},
		"PKCS11:token=The%20Software%20PKCS%2311%20Softtoken;serial=4d0a;manufacturer=SoftHSM%20project;model=SoftHSM%20v2": {
			Token: "The Software PKCS#11 Softtoken", Serial: "4d0a", Manufacturer: "SoftHSM project", Model: "SoftHSM v2",
		},
		"pkcs11:object=my+key;type=private;id=%69%95%00%ff":                  {Object: "my+key", ID: []byte{0x69, 0x95, 0, 0xff}},
		"pkcs11:token=a;?module-path=/usr/lib/x.so&pin-source=file:/etc/pin": {Token: "a", ModulePath: "/usr/lib/x.so", PINSource: "/etc/pin"},
		"pkcs11:token=a?pin-source=file:///etc/pin":                          {Token: "a", PINSource: "/etc/pin"},
		"pkcs11:token=a?pin-source=/etc/p%20in":                              {Token: "a", PINSource: "/etc/p in"},
		"pkcs11:":                                                            {},
	} {
		got, err := ParseURI(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", text, diff)
		}
	}
}

func TestURIErrorNamesTheAttribute(t *testing.T) {
	for text, want := range map[string]string{
		"token=a":                             `begin with "pkcs11:"`,
		"pkcs11:token=%zz":                    `"token"`,
		"pkcs11:token=a;token=b":              `"token": given twice`,
		"pkcs11:token=":                       `"token": empty`,
		"pkcs11:token":                        `"token": want name=value`,
		"pkcs11:slot-id=3":                    `"slot-id": not supported`,
		"pkcs11:token=a;type=cert":            `"type"`,
		"pkcs11:token=a?module-path=x.so":     `"module-path"`,
		"pkcs11:token=a?pin-source=%7C/bin/p": `"pin-source"`,
		"pkcs11:token=a?module-name=softhsm":  `"module-name": not supported`,
		"pkcs11:token=a&pin-value=1":          "", // one attribute whose value holds an ampersand
	} {
		_, err := ParseURI(text)
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", text, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

func TestURIWithPINIsRefusedWithoutRepeatingIt(t *testing.T) {
	for _, text := range []string{
		"pkcs11:token=a?pin-value=hunter2",
		"pkcs11:token=a;pin-value=hunter2",
		"pkcs11:token=a?module-path=/x&pin-value=%zzhunter2",
		"pkcs11:token=a?pin-source=hunter2",
		"token=a?pin-value=hunter2",
	} {
		_, err := ParseURI(text)
		if err == nil {
			t.Errorf("%s: accepted", text)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error repeats the PIN: %v", err)
		}
	}
	if _, err := ParseURI("pkcs11:token=a?pin-value=x"); !strings.Contains(err.Error(), "pin-source") {
		t.Errorf("the error names no fix: %v", err)
	}
}

func TestURIRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(1, 20, -1)
		want := URI{
			Token: text.Draw(t, "token"), Serial: text.Draw(t, "serial"), Object: text.Draw(t, "object"),
			Manufacturer: text.Draw(t, "manufacturer"), Model: text.Draw(t, "model"),
			ID:         rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "id"),
			ModulePath: "/" + text.Draw(t, "module"),
			PINSource:  "/pin" + text.Draw(t, "pin"),
		}
		got, err := ParseURI(want.String())
		if err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s:\n%s", want, diff)
		}
	})
}
