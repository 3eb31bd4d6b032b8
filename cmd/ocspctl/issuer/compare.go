package issuer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/db"
	"ocspfleet/ops/issuance"
)

// change is one change by issuer set, and its effect on clients, sites or staff.
type change struct{ what, old, new, notice string }

func (c change) record() cli.Record {
	return cli.Record{cli.F("what", "WHAT", c.what), cli.F("old", "OLD", c.old), cli.F("new", "NEW", c.new), cli.F("notice", "WHAT WILL BE NOTICED", c.notice)}
}

// compare lists the differences with their effects.
func compare(was, is db.Issuer) []change {
	a, b := was.Policy, is.Policy
	list := []change{
		{"validity", a.Validity.String(), b.Validity.String(), "answers given before keep their nextUpdate, " + a.Validity.String() + " at most"},
		{"backdate", a.Backdate.String(), b.Backdate.String(), "thisUpdate of new answers; clients whose clock is slower than that refuse them"},
		{"max staleness", a.MaxStaleness.String(), b.MaxStaleness.String(), "a site without news stops saying good after " + b.MaxStaleness.String()},
		{"fresh for unknown", a.FreshForUnknown.String(), b.FreshForUnknown.String(), "a site without news answers serials never issued with unauthorized after " + b.FreshForUnknown.String()},
		{"http max age", a.HTTPMaxAge.String(), b.HTTPMaxAge.String(), "HTTP caches keep a good so long after a revocation; what they hold now for " + a.HTTPMaxAge.String() + " at most"},
		{"refresh", a.Refresh.String(), b.Refresh.String(), "each certificate asked for is signed for again so often"},
		{"never issued", string(a.NeverIssued), string(b.NeverIssued), neverIssuedNotice(b.NeverIssued)},
		{"profile", string(a.Profile), string(b.Profile), profileNotice(b)},
		{"crl url", a.CRLURL, b.CRLURL, "the CA signs for it only once its own configuration says so (issuers.NAME.crl_url); certificates of the sites name the old one until they are renewed: ocspctl responder renew, then crl issue (the CRL names one place)"},
		{"certificate", fingerprint(was.Certificate), fingerprint(is.Certificate), "sites that pin its fingerprint need the new one in ocspd.yaml before they start again; a pinned file goes on"},
		{"archive cutoff", fmt.Sprint(a.ArchiveCutoff), fmt.Sprint(b.ArchiveCutoff), "answers promise that status is kept for ever, and db purge is refused; or no longer"},
	}
	if a.CRLURL == "" {
		list[8].notice = "the CA signs for it only once its own configuration says so (issuers.NAME.crl_url): then ocspctl crl issue, then responder renew"
	}
	if len(was.CRL) > 0 && b.MaxStaleness > issuance.CRLLife {
		list[2].notice += "; a CRL must live longer than that: crl issue --life"
	}
	return slices.DeleteFunc(list, func(d change) bool { return d.old == d.new })
}

func neverIssuedNotice(n db.NeverIssued) string {
	switch n {
	case db.NeverIssuedRevoked:
		return "a serial that is not registered is revoked to all clients: register before you sign"
	case db.NeverIssuedUnauthorized:
		return "clients that ask for a serial never issued get an error without a signature"
	}
	return "clients that ask for a serial never issued get a signed unknown"
}

func profileNotice(p db.Policy) string {
	if p.Profile == db.ProfileBR {
		return "no hold any more; no answer by a certificate in its last 8 h; responder certificates get nocheck and no CRL, and 7 days at most: ocspctl responder renew"
	}
	return "responder certificates lose nocheck: ocspctl responder renew; clients may check them by the CRL (--crl-url)"
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
