package boot

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Fault is one thing wrong in a configuration file.
type Fault struct {
	Line    int    // 1-based; the line of the nearest block when the key is missing
	Key     string // dotted, with list places: "issuers[0].name"; "" for the file
	Problem string
}

// Faults is the error of Load: all faults of one file, in its order.
type Faults struct {
	File string
	All  []Fault
}

// Error returns one line "file:line: key: problem" per fault.
func (f *Faults) Error() string {
	lines := make([]string, len(f.All))
	for i, fault := range f.All {
		if fault.Key != "" {
			fault.Problem = fault.Key + ": " + fault.Problem
		}
		lines[i] = fmt.Sprintf("%s:%d: %s", f.File, fault.Line, fault.Problem)
	}
	return strings.Join(lines, "\n")
}

// Checker is a configuration that can check itself after it was read. key is dotted as in
// Fault; a missing one gets the line of the block that it belongs to.
type Checker interface {
	Check(report func(key, problem string))
}

// Load reads the YAML file into the struct that into points to, over the defaults in it.
// Unknown and repeated keys, wrong types, keys without a value and the faults that into's Check
// finds are all reported at once, as *Faults. Durations are written "72h".
func Load(file string, into any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	r := reader{lines: map[string]int{"": 1}}
	r.read(text, into)
	if len(r.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(r.faults, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	return &Faults{File: file, All: r.faults}
}

// reader collects the faults of one file.
type reader struct {
	faults []Fault
	lines  map[string]int // dotted key -> line
}

func (r *reader) fault(line int, key, problem string, args ...any) {
	r.faults = append(r.faults, Fault{Line: line, Key: key, Problem: fmt.Sprintf(problem, args...)})
}

func (r *reader) read(text []byte, into any) {
	var document, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		r.syntax(err)
		return
	}
	if err := dec.Decode(&second); err == nil {
		r.fault(second.Line, "", "a second document: one file holds one configuration")
	} else if !errors.Is(err, io.EOF) {
		r.syntax(err)
		return
	}
	if len(document.Content) > 0 && !isNull(document.Content[0]) {
		root := document.Content[0]
		r.walk(root, reflect.TypeOf(into), "")
		// Valid values are taken over even if others are wrong, so that Check can check them in
		// the same run.
		if err := root.Decode(into); err != nil && len(r.faults) == 0 {
			r.fault(root.Line, "", "%v", err)
		}
	}
	if c, ok := into.(Checker); ok {
		c.Check(r.report)
	}
}

// report adds a fault found by Check, unless the key is known to be wrong.
func (r *reader) report(key, problem string) {
	for _, f := range r.faults {
		if f.Key == key || strings.HasPrefix(key, f.Key+".") || strings.HasPrefix(key, f.Key+"[") {
			return
		}
	}
	at := key
	for {
		if line, ok := r.lines[at]; ok {
			r.fault(line, key, "%s", problem)
			return
		}
		at = at[:max(0, strings.LastIndexAny(at, ".["))]
	}
}

var syntaxError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

func (r *reader) syntax(err error) {
	if m := syntaxError.FindStringSubmatch(err.Error()); m != nil {
		line, _ := strconv.Atoi(m[1]) // if there is none: line 1
		r.fault(max(1, line), "", "%s", m[2])
		return
	}
	r.fault(1, "", "%v", err)
}

// wrong reports a value and removes it from the tree: one unreadable value may make the decoder
// drop all the rest.
func (r *reader) wrong(n *yaml.Node, key, problem string, args ...any) {
	r.fault(n.Line, key, problem, args...)
	*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line}
}

// walk compares a node with the type that it must have.
func (r *reader) walk(n *yaml.Node, t reflect.Type, key string) {
	for t.Kind() == reflect.Pointer && !isLeaf(t) {
		t = t.Elem()
	}
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case isNull(n):
		r.fault(n.Line, key, "has no value: give one or remove the line")
	case isLeaf(t) || t.Kind() == reflect.Interface:
		r.leaf(n, t, key)
	case t.Kind() == reflect.Struct:
		fields := map[string]reflect.Type{}
		collectFields(t, fields)
		r.mapping(n, key, func(name string) reflect.Type { return fields[name] }, fields)
	case t.Kind() == reflect.Map:
		r.mapping(n, key, func(string) reflect.Type { return t.Elem() }, nil)
	case t.Kind() == reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			r.wrong(n, key, "want a list, got %s", describe(n))
			return
		}
		for i, item := range n.Content {
			place := fmt.Sprintf("%s[%d]", key, i)
			r.lines[place] = item.Line
			r.walk(item, t.Elem(), place)
		}
	default:
		r.leaf(n, t, key)
	}
}

// mapping walks the keys of a block; typeOf returns nil for an unknown one.
func (r *reader) mapping(n *yaml.Node, key string, typeOf func(string) reflect.Type, known map[string]reflect.Type) {
	if n.Kind != yaml.MappingNode {
		r.wrong(n, key, "want a block of keys, got %s", describe(n))
		return
	}
	seen := map[string]int{}
	var kept []*yaml.Node // without repeated keys, which would make the decoder drop the whole block
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, line := n.Content[i].Value, n.Content[i].Line
		full := strings.TrimPrefix(key+"."+name, ".")
		if first, double := seen[name]; double {
			r.fault(line, full, "stands a second time; first in line %d", first)
			continue
		}
		seen[name], r.lines[full] = line, line
		kept = append(kept, n.Content[i], n.Content[i+1])
		if t := typeOf(name); t != nil {
			r.walk(n.Content[i+1], t, full)
		} else {
			r.fault(line, full, "unknown key%s", suggest(name, known))
		}
	}
	n.Content = kept
}

// leaf tries to decode a single value.
func (r *reader) leaf(n *yaml.Node, t reflect.Type, key string) {
	err := n.Decode(reflect.New(t).Interface())
	if err == nil {
		return
	}
	if want := wanted(t); want != "" {
		r.wrong(n, key, "want %s, got %s", want, describe(n))
		return
	}
	r.wrong(n, key, "%s: %v", describe(n), err)
}
