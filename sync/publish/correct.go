package publish

import (
	"ocspfleet/db/masterdb"
	"ocspfleet/sync/feed"
)

// CorrectionsOf is what the second person signs of a request for a correction: a note
// for each certificate that is revoked for ever. The others need none.
func CorrectionsOf(origin string, issuer [32]byte, a masterdb.Approval) []feed.CorrectionNote {
	var notes []feed.CorrectionNote
	for _, c := range a.Taken {
		if was := c.Status(); was.Permanent() {
			notes = append(notes, feed.CorrectionNote{
				Origin: origin, Issuer: issuer, Serial: c.Serial, Was: was, Wrong: a.Wrong, NotAfter: a.NotAfter, CorrectedAt: a.CorrectedAt,
			})
		}
	}
	return notes
}
