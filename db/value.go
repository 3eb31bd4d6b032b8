package db

import (
	"time"
)

// Act is the user and the reason of a change; the audit records both.
type Act struct {
	User string // the operating system's user, as the client reports it
	Why  string // for people; may be empty if nothing is taken away
}

// RowStatus returns the status of a row: revoked if it has a time of revocation, whatever the time
// is.
func RowStatus(notAfter time.Time, revokedAt *time.Time, reason *int16) Status {
	return Status{NotAfter: notAfter.UTC(), Revoked: revokedAt != nil, RevokedAt: TimeOrZero(revokedAt), Reason: ReasonOf(reason)}
}

// RevocationArg returns the time and the reason for a row: null if not revoked.
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

// TimeOrZero returns the time in UTC, or the zero time for nil.
func TimeOrZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
