package feed

import "ocspfleet/db"

// OpenCorrections verifies the corrections of a copy by this set; it is a db.OpenCorrections.
func (k *KeySet) OpenCorrections(all []db.Correction) []*db.Undoing {
	notes := make([][]byte, len(all))
	for i, c := range all {
		notes[i] = c.Note
	}
	opened := make([]*db.Undoing, len(all))
	for i, n := range k.CheckCorrections(notes) {
		if n != nil {
			opened[i] = &db.Undoing{Issuer: n.Issuer, Serial: n.Serial, Was: n.Was, Wrong: n.Wrong, NotAfter: n.NotAfter, CorrectedAt: n.CorrectedAt}
		}
	}
	return opened
}
