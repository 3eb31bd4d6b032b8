package db

import (
	"time"
)

// Act is who changes something and why; it stands in the audit.
type Act struct {
	User string // the operating system's user, as the client says
	Why  string // for people; may be empty where nothing is taken away
}

// RowStatus is the status of a row: revoked where it has a time of revocation, whatever
// that is.
func RowStatus(notAfter time.Time, revokedAt *time.Time, reason *int16) Status {
	return Status{NotAfter: notAfter.UTC(), Revoked: revokedAt != nil, RevokedAt: TimeOrZero(revokedAt), Reason: ReasonOf(reason)}
}

// RevocationArg is the time and the reason of a row: null of what is not revoked.
func RevocationArg(s Status) (revokedAt *time.Time, reason *int16) {
	if !s.Revoked {
		return nil, nil
	}
	at := s.RevokedAt.UTC().Truncate(time.Second)
	return &at, ReasonArg(s.Reason)
}

func ReasonArg(r Reason) *int16 {
	if r <= 0 {
		return nil
	}
	n := int16(r)
	return &n
}

func ReasonOf(n *int16) Reason {
	if n == nil {
		return ReasonNone
	}
	return Reason(*n)
}

func TimeArg(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

// TimeOrZero is the time in UTC, or the zero time for none.
func TimeOrZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
