package signer

import (
	"time"

	"ocspfleet/db"
)

// What section 4.9.10 of the CA/Browser Forum's Baseline Requirements (BR) wants of
// each answer, judged when it is sent, whatever the configuration says.
const (
	// The validity interval is nextUpdate - thisUpdate "inclusive": both seconds
	// count. The bounds hold however one counts.
	minValidityBR = db.SignerMargin
	maxValidityBR = 10*24*time.Hour - time.Second
)

// sendableBR says whether an answer with these times may be sent at now.
func sendableBR(thisUpdate, nextUpdate, now time.Time) bool {
	validity := nextUpdate.Sub(thisUpdate)
	return validity >= minValidityBR && validity <= maxValidityBR && now.Sub(thisUpdate) <= db.RenewalBR(validity)
}

// signerMargin is for how long a certificate must still be good to be preferred to
// one in its first hour.
func (p policy) signerMargin() time.Duration {
	if p.Profile == db.ProfileBR { // its answers end 8 h before it does
		return minValidityBR + settleTime
	}
	return settleTime
}
