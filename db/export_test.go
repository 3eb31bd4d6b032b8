package db

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
