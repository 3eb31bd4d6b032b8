package zone

import (
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// Refusal is a server's answer that it refused.
type Refusal struct {
	Server string
	Code   string // NOTAUTH, REFUSED, ..., or a code of TSIG: BADKEY, BADSIG, BADTIME
	Text   string // its meaning, with the fix
}

// Error returns all of it.
func (r *Refusal) Error() string { return fmt.Sprintf("%s answers %s: %s", r.Server, r.Code, r.Text) }

// refusal makes an error from the answer to a signed update of a name.
func (z *Zone) refusal(answer *dns.Msg, name string) error {
	r := &Refusal{Server: z.c.Server, Code: rcode(answer.Rcode)}
	if t := answer.IsTsig(); t != nil && answer.Rcode == dns.RcodeNotAuth && t.Error != dns.RcodeSuccess {
		r.Code, r.Text = rcode(int(t.Error)), z.badSignature(t, name)
		return r
	}
	switch answer.Rcode {
	case dns.RcodeNotImplemented:
		r.Text = "it takes no dynamic updates (name the zone's primary in dns.server)"
	case dns.RcodeRefused:
		r.Text = fmt.Sprintf("key %s may not change A and AAAA of %s (bind9: update-policy; knot: acl; see docs/dns.md)", z.c.Key.Name, name)
	case dns.RcodeNotAuth:
		r.Text = fmt.Sprintf("it is not the primary of zone %s (see dns.server and dns.zone)", z.c.Zone)
	case dns.RcodeNotZone:
		r.Text = fmt.Sprintf("%s does not lie in zone %s there (see dns.names and dns.zone)", name, z.c.Zone)
	case dns.RcodeServerFailure:
		r.Text = "it could not do it; its log says why (bind9: may it write beside its zone file?)"
	case dns.RcodeFormatError:
		r.Text = "it does not understand the message (is it a server that takes RFC 2136 updates?)"
	default:
		r.Text = "that is no answer to an update (is dns.server the zone's primary?)"
	}
	return r
}

func rcode(code int) string {
	switch code {
	case dns.RcodeNotImplemented:
		return "NOTIMP"
	case dns.RcodeBadSig: // 16 is also BADVERS, which cannot occur here
		return "BADSIG"
	}
	if text, known := dns.RcodeToString[code]; known {
		return text
	}
	return fmt.Sprintf("RCODE %d", code)
}

// badSignature says why TSIG refused the message (RFC 8945 section 5.2).
func (z *Zone) badSignature(t *dns.TSIG, name string) string {
	switch int(t.Error) {
	case dns.RcodeBadKey:
		// knot also answers this when no acl allows the key.
		return fmt.Sprintf("it knows no key %s, or may not change A and AAAA of %s by it (see dns.key, dns.algorithm; knot: key and acl)", z.c.Key, name)
	case dns.RcodeBadSig:
		return fmt.Sprintf("its secret of key %s is another one (see dns.secret_file)", z.c.Key)
	case dns.RcodeBadTime:
		ours := z.c.Now().UTC()
		if theirs, ok := serverTime(t); ok {
			return fmt.Sprintf("its clock says %s, ours %s, and more than %d s are too much (see that NTP runs at both)",
				theirs.Format(time.RFC3339), ours.Format(time.RFC3339), fudge)
		}
		return fmt.Sprintf("its clock and ours (%s) differ by more than %d s (see that NTP runs at both)", ours.Format(time.RFC3339), fudge)
	default:
		return fmt.Sprintf("it does not take the signature of key %s", z.c.Key)
	}
}
