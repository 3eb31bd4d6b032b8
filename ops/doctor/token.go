package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"ocspfleet/db"
)

// leastSessions are enough for ocspd with its default on one processor (one
// holds the login, two sign) and for ocspctl beside it (two).
const leastSessions = 5

// token examines the tokens. known is false when a key may have been missed.
func (s Site) token(ctx context.Context, f *results) (keys []Key, known bool) {
	if s.Tokens == nil {
		f.warn("token", "set token in ocspctl's configuration, or give --ocspd-config", "not looked at: no token is configured")
		return nil, false
	}
	tokens, err := s.Tokens(ctx)
	if err != nil {
		f.fail("token", "look at token.uri, token.module and the PIN file; is the HSM's daemon up?", "%v", err)
	}
	for _, t := range tokens {
		of := ""
		if len(tokens) > 1 {
			of = " " + t.Name
		}
		if len(t.Keys) == 0 {
			f.fail("token"+of, "ocspctl key generate --label ocsp-SITE-DATE", "is there and holds no key")
		} else {
			labels := make([]string, len(t.Keys))
			for i, k := range t.Keys {
				labels[i] = k.Label
			}
			f.ok("token"+of, "holds %d keys: %s", len(t.Keys), strings.Join(labels, ", "))
		}
		for _, odd := range t.Odd {
			f.warn("token"+of, "see ocspctl key list", "%s", odd)
		}
		mechanisms(f, "mechanisms"+of, t)
		sessions(f, "sessions"+of, t)
		keys = append(keys, t.Keys...)
	}
	return keys, err == nil
}

// mechanisms says whether the token can sign with the keys that it holds.
func mechanisms(f *results, check string, t Token) {
	const fix = "allow CKM_ECDSA or CKM_RSA_PKCS in the token's policy (FIPS modes forbid some), or make a key of the other kind"
	before := len(f.all)
	for _, k := range t.Keys {
		wants := "RSA_PKCS"
		if strings.HasPrefix(k.Kind, "p") {
			wants = "ECDSA"
		}
		if !slices.Contains(t.Mechanisms, wants) {
			f.fail(check, fix, "key %s is of kind %s, and the token does not sign by %s", k.Label, k.Kind, wants)
		}
	}
	if len(f.all) > before {
		return
	}
	if !slices.Contains(t.Mechanisms, "ECDSA") && !slices.Contains(t.Mechanisms, "RSA_PKCS") {
		f.fail(check, fix, "the token signs neither by ECDSA nor by RSA_PKCS")
		return
	}
	f.ok(check, "it has %s", strings.Join(t.Mechanisms, ", "))
}

func sessions(f *results, check string, t Token) {
	switch {
	case t.Most == 0:
		f.ok(check, "the token tells no limit")
	case t.Most < leastSessions:
		f.warn(check, "raise the partition's limit, or set token.max_sessions so low that ocspd and ocspctl (2) both fit", "the token allows %d", t.Most)
	default:
		f.ok(check, "the token allows %d", t.Most)
	}
}

// matches reports for each key which served issuers have a certificate for it.
func matches(f *results, issuers []db.Issuer, rows []db.ResponderCertificate, keys []Key) {
	names := map[db.IssuerID]string{}
	for _, issuer := range issuers {
		names[issuer.ID] = issuer.Name
	}
	for _, k := range keys {
		var of []string
		for _, row := range rows {
			if name := names[row.IssuerID]; name != "" && row.KeyHash == k.Hash && !slices.Contains(of, name) {
				of = append(of, name)
			}
		}
		check := "key " + k.Label
		if len(of) == 0 {
			f.warn(check, fmt.Sprintf("ocspctl key csr SITE --label %s, and have the CA's staff run ocspctl responder add; or delete the key when it was replaced", k.Label),
				"%s: no certificate in the copy is for it, so it signs nothing", k.Kind)
			continue
		}
		slices.Sort(of)
		f.ok(check, "%s: has certificates of %s", k.Kind, strings.Join(of, ", "))
	}
}
