package db

import "time"

// The bounds that several rooms obey. What the master's database enforces itself stands
// in its migrations; these are for who must know before, or elsewhere.
const (
	// MaxClockSkew is how far two clocks of the fleet may differ: beyond it one of them
	// is wrong, and nobody can say which. The SQL function max_clock_skew is the same.
	MaxClockSkew = 5 * time.Minute

	// SignerMargin is how long before its end a responder certificate is taken to be out
	// of time: BR section 4.9.10 wants every answer to be good for at least 8 hours, and
	// an answer ends with its signer. It is also a working day to renew it.
	SignerMargin = 8 * time.Hour
)

// RenewalBR is the age at which BR section 4.9.10 wants an answer of this validity to
// have been replaced by a newer one: below 16 hours before half of it is left, else 8
// hours before its end and at most 4 days after its begin. The CHECK issuer_br is the same.
func RenewalBR(validity time.Duration) time.Duration {
	if validity < 16*time.Hour {
		return validity / 2
	}
	return min(validity-8*time.Hour, 4*24*time.Hour)
}
