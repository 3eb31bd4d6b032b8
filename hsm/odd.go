package hsm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/ThalesIgnite/crypto11"
	"github.com/miekg/pkcs11"
)

var errEachTime = errors.New("the key asks for the PIN anew at each signature (CKA_ALWAYS_AUTHENTICATE), so it is left alone: make one that does not")

// eachTime says whether a key needs its own login for each signature (PKCS#11 v2.40 section
// 4.9). Trying such a key would look like a lost login. A token that does not know the
// attribute has no such key; a lost session shows in the calls that follow.
func (c *connection) eachTime(key crypto11.Signer) bool {
	is, err := c.ctx.GetAttribute(key, crypto11.CkaAlwaysAuthenticate)
	return err == nil && is != nil && len(is.Value) > 0 && is.Value[0] != 0
}

// object is half a key pair, or a certificate, in the token.
type object struct {
	label, id []byte
	kind      []byte // CKA_KEY_TYPE; nil for a certificate
	eachTime  bool
}

// Oddities returns a sentence, with the fix, for each key of the token that is not used or
// cannot be told from another one. Keys lists the keys in use.
func (t *Token) Oddities() ([]string, error) {
	odd, err := within(t, t.times.generate, func(*connection) (odd []string, err error) {
		err = t.inSession(func(p *pkcs11.Ctx, session pkcs11.SessionHandle) error {
			private, err := read(p, session, pkcs11.CKO_PRIVATE_KEY)
			if err != nil {
				return err
			}
			public, err := read(p, session, pkcs11.CKO_PUBLIC_KEY)
			if err != nil {
				return err
			}
			certificates, err := read(p, session, pkcs11.CKO_CERTIFICATE)
			if err != nil {
				return err
			}
			private = slices.DeleteFunc(private, func(o object) bool { // the URI says which keys are ours
				return t.conf.Parsed.Object != "" && t.conf.Parsed.Object != string(o.label) || len(t.conf.Parsed.ID) > 0 && !bytes.Equal(t.conf.Parsed.ID, o.id)
			})
			odd = oddities(private, public, certificates)
			return nil
		})
		return odd, err
	})
	if err != nil {
		return nil, fmt.Errorf("looking at the objects of token %s: %w", t.conf.Name(), err)
	}
	if err := t.conf.Denied(true); err != nil {
		odd = append(odd, err.Error()) // it may be a key
	}
	return odd, nil
}

// read returns the objects of a class; keys only if RSA or elliptic curve.
func read(p *pkcs11.Ctx, session pkcs11.SessionHandle, class uint) (all []object, err error) {
	handles, err := search(p, session, pkcs11.NewAttribute(pkcs11.CKA_CLASS, class))
	if err != nil {
		return nil, err
	}
	value := func(handle pkcs11.ObjectHandle, attribute uint) []byte { // nil: the attribute is missing
		got, err := p.GetAttributeValue(session, handle, []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
		if err != nil || len(got) == 0 {
			return nil
		}
		return got[0].Value
	}
	for _, handle := range handles {
		o := object{label: value(handle, pkcs11.CKA_LABEL), id: value(handle, pkcs11.CKA_ID)}
		if class != pkcs11.CKO_CERTIFICATE {
			o.kind = value(handle, pkcs11.CKA_KEY_TYPE)
			if !o.is(pkcs11.CKK_RSA) && !o.is(pkcs11.CKK_EC) {
				continue
			}
		}
		if class == pkcs11.CKO_PRIVATE_KEY {
			o.eachTime = bytes.Equal(value(handle, pkcs11.CKA_ALWAYS_AUTHENTICATE), []byte{1})
		}
		all = append(all, o)
	}
	return all, nil
}

func (o object) is(kind uint) bool {
	return bytes.Equal(o.kind, pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, kind).Value)
}

func oddities(private, public, certificates []object) (odd []string) {
	say := func(format string, values ...any) { odd = append(odd, fmt.Sprintf(format, values...)) }
	labels, ids := map[string]int{}, map[string]int{}
	for _, o := range private {
		labels[string(o.label)]++
		ids[string(o.id)]++
		if o.eachTime {
			say("key %q (id %x): %v", o.label, o.id, errEachTime)
			continue
		}
		half, stray := false, []byte(nil)
		for _, other := range public {
			half = half || bytes.Equal(other.kind, o.kind) && (bytes.Equal(other.id, o.id) && (len(o.id) > 0 || bytes.Equal(other.label, o.label)))
			if bytes.Equal(other.kind, o.kind) && len(o.label) > 0 && bytes.Equal(other.label, o.label) {
				stray = other.id
			}
		}
		for _, other := range certificates {
			half = half || len(o.id) > 0 && bytes.Equal(other.id, o.id)
		}
		switch {
		case half:
		case stray != nil:
			say("key %q: the private half has the id %x, the public half %x, so they are no pair and not used: give both the same, as by pkcs11-tool --set-id", o.label, o.id, stray)
		default:
			say("key %q (id %x) has no public half, so it is not used: write it beside, under the same id, as by pkcs11-tool --write-object FILE --type pubkey --id %x", o.label, o.id, o.id)
		}
	}
	for _, o := range private {
		if n := labels[string(o.label)]; n > 1 && len(o.label) > 0 {
			say("%d keys have the label %q, and --label cannot tell which is meant: give each its own, or set id= in the PKCS#11 URI", n, o.label)
			delete(labels, string(o.label))
		}
		if n := ids[string(o.id)]; n > 1 && len(o.id) > 0 {
			say("%d keys have the id %x, so the public half of one is taken for that of the other: give each its own", n, o.id)
			delete(ids, string(o.id))
		}
	}
	return odd
}
