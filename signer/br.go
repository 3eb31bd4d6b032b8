package signer

import (
	"time"

	"ocspfleet/db"
)

// What section 4.9.10 of the CA/Browser Forum's Baseline Requirements (BR) requires of each
// answer. It is checked when the answer is sent, whatever the configuration says.
const (
	// The validity interval is nextUpdate - thisUpdate "inclusive": both seconds count. The
	// bounds hold with either way of counting.
	minValidityBR = db.SignerMargin
	maxValidityBR = 10*24*time.Hour - time.Second
)

// sendableBR says whether an answer with these times may be sent at now.
func sendableBR(thisUpdate, nextUpdate, now time.Time) bool {
	validity := nextUpdate.Sub(thisUpdate)
	return validity >= minValidityBR && validity <= maxValidityBR && now.Sub(thisUpdate) <= db.RenewalBR(validity)
}

// signerMargin is how long a certificate must still be valid to be preferred to one in its
// first hour.
func (p policy) signerMargin() time.Duration {
	if p.Profile == db.ProfileBR { // answers must end 8 h before the certificate does
		return minValidityBR + settleTime
	}
	return settleTime
}
