package db

import "time"

// The limits that several packages obey. The master's database enforces its own limits in its
// migrations; these are for code that must know them before, or elsewhere.
const (
	// MaxClockSkew is how far two clocks of the fleet may differ: beyond it one of them is wrong,
	// and it is unknown which. The SQL function max_clock_skew is the same.
	MaxClockSkew = 5 * time.Minute

	// SignerMargin is how long before its end a responder certificate counts as expired: BR
	// section 4.9.10 requires every answer to be valid for at least 8 hours, and an answer ends
	// with its signer. It also leaves a working day to renew the certificate.
	SignerMargin = 8 * time.Hour
)

// RenewalBR returns the age at which BR section 4.9.10 requires that an answer of this validity
// has been replaced by a newer one: below 16 hours before half of it is left, else 8 hours before
// its end and at most 4 days after its begin. The CHECK issuer_br is the same.
func RenewalBR(validity time.Duration) time.Duration {
	if validity < 16*time.Hour {
		return validity / 2
	}
	return min(validity-8*time.Hour, 4*24*time.Hour)
}
