package db

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrNotIssued says that the issuer never issued the serial.
var ErrNotIssued = errors.New("certificate was never issued")

// IssuerID numbers an issuer within one fleet; it is the primary key of the
// issuer table and the first half of the key of a certificate.
type IssuerID int32

// MaxSerialLen is the longest serial that can be in the table, in octets (RFC 5280 section
// 4.1.2.2). A request may have a longer one; it was never issued.
const MaxSerialLen = 20

// Serial is a certificate serial number as its DER INTEGER content octets: minimal two's
// complement, big endian, a leading 00 kept. The bytes are the same in a request, in the table and
// in a map key; hex is for logs and the CLI only.
type Serial []byte

// String returns the octets as lower-case hex, a leading 00 kept.
func (s Serial) String() string { return hex.EncodeToString(s) }

// Check says why no certificate can have the serial: RFC 5280 section 4.1.2.2 requires 1 to 20
// octets, not negative, and X.690 section 8.3.2 the shortest form. The SQL function is_serial is
// the same rule for the tables.
func (s Serial) Check() error {
	switch {
	case len(s) == 0:
		return errors.New("there is no serial")
	case s[0] >= 0x80:
		return fmt.Errorf("serial %s: is negative (RFC 5280 section 4.1.2.2)", s.brief())
	case len(s) > MaxSerialLen:
		return fmt.Errorf("serial %s: has %d octets, more than %d (RFC 5280 section 4.1.2.2)", s.brief(), len(s), MaxSerialLen)
	case len(s) > 1 && s[0] == 0 && s[1] < 0x80:
		return fmt.Errorf("serial %s: is not in its shortest form (X.690 section 8.3.2)", s.brief())
	}
	return nil
}

// brief returns the serial for an error, cut short: one from a file can have any length.
func (s Serial) brief() string {
	if len(s) > MaxSerialLen+4 {
		return s[:MaxSerialLen+4].String() + "..."
	}
	return s.String()
}

// ParseSerial reads a serial as people write it: hex as openssl prints it, in either case, with or
// without colons, leading zeros or an odd number of digits, and a leading minus sign for a
// negative one. The result is the minimal DER form.
func ParseSerial(text string) (Serial, error) {
	digits, negative := strings.CutPrefix(strings.TrimSpace(text), "-")
	digits = strings.ReplaceAll(digits, ":", "")
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) == 0 {
		return nil, fmt.Errorf("serial %q: want hexadecimal digits, as openssl x509 -serial prints them", text)
	}
	return SerialFromMagnitude(raw, negative), nil
}

// SerialFromMagnitude returns the minimal DER content octets of the number
// whose magnitude is raw, big endian.
func SerialFromMagnitude(raw []byte, negative bool) Serial {
	for len(raw) > 0 && raw[0] == 0 {
		raw = raw[1:]
	}
	if len(raw) == 0 {
		return Serial{0}
	}
	out := make([]byte, len(raw)+1) // one octet of room for the sign
	copy(out[1:], raw)
	if negative {
		carry := true // two's complement: invert, add one
		for i := len(out) - 1; i >= 0; i-- {
			out[i] = ^out[i]
			if carry {
				out[i]++
				carry = out[i] == 0
			}
		}
	}
	if (out[0] == 0 && out[1] < 0x80) || (out[0] == 0xff && out[1] >= 0x80) {
		out = out[1:]
	}
	return out
}

// Reason is a CRLReason (RFC 5280 section 5.3.1). ReasonNone means that no reason was given;
// unspecified(0) is never stored, since RFC 5280 requires it to be absent.
type Reason int8

// The reasons that the table can have.
const (
	ReasonNone                 Reason = -1
	ReasonKeyCompromise        Reason = 1
	ReasonCACompromise         Reason = 2
	ReasonAffiliationChanged   Reason = 3
	ReasonSuperseded           Reason = 4
	ReasonCessationOfOperation Reason = 5
	ReasonCertificateHold      Reason = 6
	ReasonPrivilegeWithdrawn   Reason = 9
	ReasonAACompromise         Reason = 10
)

var reasonNames = map[Reason]string{
	ReasonKeyCompromise: "keyCompromise", ReasonCACompromise: "cACompromise",
	ReasonAffiliationChanged: "affiliationChanged", ReasonSuperseded: "superseded",
	ReasonCessationOfOperation: "cessationOfOperation", ReasonCertificateHold: "certificateHold",
	ReasonPrivilegeWithdrawn: "privilegeWithdrawn", ReasonAACompromise: "aACompromise",
}

// String returns the name of RFC 5280, or "" for ReasonNone.
func (r Reason) String() string { return reasonNames[r] }

// ParseReason reads a name of RFC 5280 section 5.3.1, in any case ("CACompromise" is what openssl
// writes). "" and "unspecified" are ReasonNone.
func ParseReason(name string) (Reason, error) {
	if name == "" || strings.EqualFold(name, "unspecified") {
		return ReasonNone, nil
	}
	known := make([]string, 0, len(reasonNames))
	for r := ReasonKeyCompromise; r <= ReasonAACompromise; r++ {
		if n := reasonNames[r]; n != "" {
			if strings.EqualFold(n, name) {
				return r, nil
			}
			known = append(known, n)
		}
	}
	return ReasonNone, fmt.Errorf("reason %q: want one of unspecified, %s", name, strings.Join(known, ", "))
}

// Status is the copy's status of one issued certificate.
type Status struct {
	NotAfter  time.Time // end of the certificate's validity, UTC, whole seconds
	Revoked   bool      // revoked, including on hold; independent of RevokedAt
	RevokedAt time.Time // UTC, whole seconds; only if revoked
	Reason    Reason    // ReasonNone when not revoked or none was given
	Changed   uint64    // number of the row's last change in this copy; differs after every change
}

// Permanent says whether the revocation is permanent (any reason but certificateHold, RFC 5280
// section 5.3.1).
func (s Status) Permanent() bool { return s.Revoked && s.Reason != ReasonCertificateHold }

// Horizon is the extent of a copy: it has every change up to Position, and the master confirmed at
// AsOf (its own clock) that nothing newer existed.
type Horizon struct {
	Epoch    int64
	Position int64
	AsOf     time.Time // the master's clock
	Received time.Time // this machine's clock when this head was first seen
	// Doubt says why answers good and unknown from this copy are not reliable (divergence from the
	// head, clock skew); empty: they are. A permanent revocation stays valid.
	Doubt string
}

// Age returns the age of the copy at now, by the earlier of the master's as_of and the local time
// of its receipt. Never negative.
func (h Horizon) Age(now time.Time) time.Duration {
	from := h.AsOf
	if h.Received.Before(from) {
		from = h.Received
	}
	return max(0, now.Sub(from))
}

// NeverIssued is an issuer's policy for serials that it never issued.
type NeverIssued string

// The policies for serials never issued.
const (
	NeverIssuedUnknown      NeverIssued = "unknown"
	NeverIssuedRevoked      NeverIssued = "revoked" // RFC 6960 section 2.2, extended revoke
	NeverIssuedUnauthorized NeverIssued = "unauthorized"
)

// Profile names the rules for an issuer's answers and responder certificates.
type Profile string

// The profiles: revocable (default) and the CA/Browser Forum's Baseline Requirements.
const (
	ProfileRevocable Profile = "revocable"
	ProfileBR        Profile = "br"
)

// Policy says how to answer for an issuer's certificates. It is data of the master and is
// replicated with the rows, so that every site answers alike.
type Policy struct {
	Version         int64         // grows with every change of the policy
	Validity        time.Duration // nextUpdate - thisUpdate; default 72 h, at most 10 d
	Backdate        time.Duration // how far thisUpdate lies before the horizon, for slow client clocks; default 5 min, at most 1 h
	MaxStaleness    time.Duration // how old the copy may be for good; default Validity / 2
	FreshForUnknown time.Duration // how old the copy may be for unknown; default 15 min
	HTTPMaxAge      time.Duration // Cache-Control max-age; default 1 h, at most Validity / 2
	Refresh         time.Duration // how far a kept signature may lag behind the horizon, Validity / 4 at most; default 15 min
	NeverIssued     NeverIssued   // default unknown
	Profile         Profile       // default revocable
	CRLURL          string        // CRL distribution point for responder certificates; may be empty
	ArchiveCutoff   bool          // answers say that status is kept since the CA's notBefore (RFC 6960 section 4.4.4); default false
}

// KnowsHold says whether certificates may be put on hold: profile br forbids
// certificateHold (BR section 4.9.13). The SQL function allows_hold is the same rule.
func (p Policy) KnowsHold() bool { return p.Profile != ProfileBR }

// Issuer is one CA key under one name.
type Issuer struct {
	ID          IssuerID
	Key         [32]byte // SHA-256 of subject Name DER followed by SubjectPublicKeyInfo DER; unique
	Name        string   // the staff's short name, unique
	Certificate []byte   // DER of one certificate of this key and name
	Policy      Policy
	CRL         []byte // the newest CRL of its responder certificates, DER; empty: none yet
}

// ResponderCertificate is one delegated OCSP certificate of one site for one issuer. The row
// (IssuerID, Serial) in certificate says whether it is revoked.
type ResponderCertificate struct {
	Fingerprint [32]byte // SHA-256 of DER
	IssuerID    IssuerID
	Serial      Serial
	Site        string
	KeyHash     [32]byte // SHA-256 of the SubjectPublicKeyInfo DER
	DER         []byte
}

// State is the state of a certificate in a source.
type State string

// The states: not revoked (also for a bare certificate, which does not tell), permanently revoked,
// on hold.
const (
	StateGood    State = "good"
	StateRevoked State = "revoked"
	StateHeld    State = "held"
)

// State returns the state of s.
func (s Status) State() State {
	switch {
	case !s.Revoked:
		return StateGood
	case s.Permanent():
		return StateRevoked
	}
	return StateHeld
}
