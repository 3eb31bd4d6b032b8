package db_test

import (
	"testing"
	"time"

	"ocspfleet/db"
)

// What is revoked is so whatever its time: the zero time of Go was read as not revoked,
// and a row that is not revoked has none.
func TestZeroTimeTellsNoStatus(t *testing.T) {
	end := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, s := range []db.Status{
		{NotAfter: end, Revoked: true, Reason: db.ReasonKeyCompromise},
		{NotAfter: end, Reason: db.ReasonNone},
	} {
		_, _, back, err := db.ParseCertificate(db.AppendCertificate(nil, 1, db.Serial{5}, s))
		if err != nil || back.Revoked != s.Revoked || back.Permanent() != s.Revoked || back.Reason != s.Reason {
			t.Errorf("%+v became %+v, %v", s, back, err)
		}
	}
}
