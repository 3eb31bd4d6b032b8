package boot

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

var (
	durationType        = reflect.TypeFor[time.Duration]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
	yamlUnmarshalerType = reflect.TypeFor[yaml.Unmarshaler]()
)

// isLeaf says whether a value of type t is read as a whole.
func isLeaf(t reflect.Type) bool {
	reads := func(t reflect.Type) bool {
		return t.Implements(textUnmarshalerType) || t.Implements(yamlUnmarshalerType)
	}
	return reads(t) || reads(reflect.PointerTo(t))
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// collectFields adds the keys of struct t, by the rules of package yaml.
func collectFields(t reflect.Type, into map[string]reflect.Type) {
	for field := range t.Fields() {
		if !field.IsExported() {
			continue
		}
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case name == "-":
		case slices.Contains(strings.Split(options, ","), "inline") && field.Type.Kind() == reflect.Struct:
			collectFields(field.Type, into)
		case name != "":
			into[name] = field.Type
		default:
			into[strings.ToLower(field.Name)] = field.Type
		}
	}
}

// wanted describes for people what a value of type t looks like; "" when the type's own error
// says so.
func wanted(t reflect.Type) string {
	if t == durationType {
		return `a duration such as "72h" or "90s"`
	}
	if isLeaf(t) {
		return ""
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number, not negative"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.String:
		return "a text"
	default:
		return ""
	}
}

// describe describes a node for the author of the file. Long values are cut: one may be a
// secret pasted at the wrong place.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a block of keys"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode, yaml.AliasNode, yaml.DocumentNode:
	}
	const most = 40
	if runes := []rune(n.Value); len(runes) > most {
		return fmt.Sprintf("%q...", string(runes[:most]))
	}
	return fmt.Sprintf("%q", n.Value)
}

// suggest names the nearest known key, or all of them when none is near.
func suggest(name string, known map[string]reflect.Type) string {
	names := slices.Sorted(maps.Keys(known))
	best, least := "", max(2, len(name)/3)+1 // more is not a typing error
	for _, candidate := range names {
		if d := distance(strings.ToLower(name), candidate); d < least {
			best, least = candidate, d
		}
	}
	switch {
	case best != "":
		return fmt.Sprintf("; did you mean %s?", best)
	case len(names) > 0:
		return "; known here: " + strings.Join(names, ", ")
	default:
		return ""
	}
}

// distance is Levenshtein's: how many octets to insert, delete or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j+1]+1, row[j]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
