package db

import "context"

// HasSentence says whether a person is told of a constraint in words.
func HasSentence(table, constraint string) bool {
	s, known := sentenceOf(table, constraint)
	return known && s.text != ""
}

// ConstraintsWithSentences lists those that have words of their own.
func ConstraintsWithSentences() []string {
	var names []string
	for name := range sentences {
		names = append(names, name)
	}
	return names
}

// Setting reads a setting of a session of s.
func (s *Common) Setting(ctx context.Context, name string) (value string, err error) {
	err = s.pool.QueryRow(ctx, "select current_setting($1)", name).Scan(&value)
	return value, err
}
