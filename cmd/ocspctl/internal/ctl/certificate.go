package ctl

import (
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/db"
)

// Certificate is one certificate's status as ocspctl shows it.
type Certificate struct {
	Issuer    string  `json:"issuer"`
	Serial    string  `json:"serial"` // lower-case hex of the DER content octets
	Status    string  `json:"status"` // good, revoked or never_issued
	NotAfter  *string `json:"not_after"`
	RevokedAt *string `json:"revoked_at"`
	Reason    *string `json:"reason"` // a name of RFC 5280
}

// NeverIssued returns the status of a serial that the master does not know.
func NeverIssued(issuer string, serial db.Serial) Certificate {
	return Certificate{Issuer: issuer, Serial: serial.String(), Status: "never_issued"}
}

// ShowStatus returns the status of a certificate that the master knows.
func ShowStatus(issuer string, serial db.Serial, s db.Status) Certificate {
	c := Certificate{
		Issuer: issuer, Serial: serial.String(), Status: "good",
		NotAfter: cli.StampOrNil(s.NotAfter),
	}
	if s.Revoked {
		c.Status, c.RevokedAt, c.Reason = "revoked", new(cli.Stamp(s.RevokedAt)), cli.TextOrNil(s.Reason.String())
	}
	return c
}

// Record returns the certificate, a line for each field.
func (c Certificate) Record() cli.Record {
	r := cli.Record{
		cli.F("issuer", "issuer", c.Issuer), cli.F("serial", "serial", c.Serial),
		cli.Shown("status", "status", c.Status, strings.ReplaceAll(c.Status, "_", " ")),
		cli.Maybe("not_after", "not after", c.NotAfter), cli.Maybe("revoked_at", "revoked at", c.RevokedAt),
	}
	if c.RevokedAt != nil {
		return append(r, cli.F("reason", "reason", c.Reason))
	}
	return append(r, cli.F("reason", "", c.Reason))
}

// Brief returns the status in one cell.
func (c Certificate) Brief() string {
	switch {
	case c.Status == "never_issued":
		return "nothing"
	case c.RevokedAt == nil:
		return c.Status + " until " + cli.OrDash(c.NotAfter)
	default:
		return c.Status + " " + *c.RevokedAt + " " + cli.OrDash(c.Reason)
	}
}
