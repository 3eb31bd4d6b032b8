package migrations

import (
	_ "embed"
	"maps"
	"slices"
	"strings"
)

// ShapeSQL asks, inside a transaction, what the schema of a database is made of: its last
// statement returns object and definition, one fact a row, then how each is made.
//
//go:embed shape.sql
var ShapeSQL string

// Shape returns what the schema of a role is made of, each fact as FactLine writes it, sorted. The
// files ROLE/schema.txt are written from a database that was migrated just now.
func Shape(role Role) []string {
	text, err := files.ReadFile(string(role) + "/schema.txt")
	if err != nil {
		panic(err) // it is embedded
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// FactLine writes a fact on one line.
func FactLine(object, definition string) string {
	return object + ": " + strings.Join(strings.Fields(definition), " ")
}

// SchemaDrift compares the schema of a live database with Shape, in sentences: what is gone
// or otherwise, and what foreign there is on our tables that can keep rows out. Foreign
// tables, functions and indexes are no matter of ours, columns that are not needed neither.
func SchemaDrift(role Role, live []string) (drift, foreign []string) {
	want, have := factsOf(Shape(role)), factsOf(live)
	for _, object := range slices.Sorted(maps.Keys(want)) {
		definition, there := have[object]
		switch {
		case there && same(definition, want[object]):
		case there && (definition == "" || strings.HasPrefix(object, "function ")):
			drift = append(drift, object+" is not this program's")
		case there:
			drift = append(drift, object+" "+otherwise(definition, want[object]))
		case !partOfMissing(object, want, have):
			drift = append(drift, object+" is gone")
		}
	}
	for _, object := range slices.Sorted(maps.Keys(have)) {
		if _, ours := want[object]; ours {
			continue
		}
		kind, _, _ := strings.Cut(object, " ")
		_, onOurs := want["table "+tableOf(object)]
		definition := have[object]
		if kind == "column" && (!strings.Contains(definition, " not null") || strings.Contains(definition, " default ") || strings.Contains(definition, " generated ")) {
			continue
		}
		if onOurs && kind != "index" {
			foreign = append(foreign, object+": "+definition)
		}
	}
	return drift, foreign
}

// same compares two definitions. A dump that was restored has other brackets than what it was
// made of: (a and b) and c is a and b and c.
func same(a, b string) bool {
	bare := func(r rune) rune {
		if strings.ContainsRune("() \n\t", r) {
			return -1
		}
		return r
	}
	return strings.Map(bare, a) == strings.Map(bare, b)
}

// otherwise says in which words a definition differs from the wanted one.
func otherwise(have, want string) string {
	h, w := strings.Fields(have), strings.Fields(want)
	for len(h) > 0 && len(w) > 0 && h[0] == w[0] {
		h, w = h[1:], w[1:]
	}
	for len(h) > 0 && len(w) > 0 && h[len(h)-1] == w[len(w)-1] {
		h, w = h[:len(h)-1], w[:len(w)-1]
	}
	switch has, wants := strings.Join(h, " "), strings.Join(w, " "); {
	case has == "":
		return "lacks " + wants
	case wants == "":
		return "is " + has
	default:
		return "is " + has + ", not " + wants
	}
}

// partOfMissing says that the table of a missing object is missing, which says enough.
func partOfMissing(object string, want, have map[string]string) bool {
	table := "table " + tableOf(object)
	_, ours := want[table]
	_, there := have[table]
	return ours && !there
}

// tableOf is the table that an object is part of; empty: of none.
func tableOf(object string) string {
	at := strings.LastIndex(object, " on ")
	if at < 0 {
		return ""
	}
	return object[at+len(" on "):]
}

func factsOf(lines []string) map[string]string {
	facts := make(map[string]string, len(lines))
	for _, line := range lines {
		object, definition, _ := strings.Cut(line, ": ")
		facts[strings.TrimSuffix(object, ":")] = definition
	}
	return facts
}
