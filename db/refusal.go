package db

// Refusal is an error that the database raised on purpose: a rule was broken, or the login lacks a
// right. Its text is for people and includes the hint; it wraps PostgreSQL's own error.
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
