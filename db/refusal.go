package db

// Refusal is an error that the database raised on purpose: a rule was broken, or
// somebody may not do that. Its text is for people and holds the hint; PostgreSQL's own
// is what it wraps.
type Refusal struct {
	Message, Hint string
	Cause         error
}

func (r *Refusal) Error() string {
	if r.Hint != "" {
		return r.Message + " (" + r.Hint + ")"
	}
	return r.Message
}

func (r *Refusal) Unwrap() error { return r.Cause }
