package manual

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
)

// Daemon makes the page of a daemon from sources: from the variable program in dir/main.go, and
// from the type of its configuration, with its comments, in the folder configs. The type has
// the program's name.
func Daemon(dir, configs string) (name string, text []byte, err error) {
	fail := func(err error) (string, []byte, error) {
		return "", nil, fmt.Errorf("reading the sources in %s: %w", dir, err)
	}
	files := token.NewFileSet()
	start, err := parser.ParseFile(files, filepath.Join(dir, "main.go"), nil, parser.ParseComments)
	if err != nil {
		return fail(err)
	}
	d, err := structsIn(configs)
	if err != nil {
		return fail(err)
	}
	program := programOf(start)
	name = program["Name"]
	if name == "" {
		return fail(fmt.Errorf("main.go has no variable program"))
	}
	of := typeOf(name)
	if d[of] == nil {
		return fail(fmt.Errorf("no file in %s has a type %s", configs, of))
	}
	var b bytes.Buffer
	line := func(text string, args ...any) { fmt.Fprintf(&b, text+"\n", args...) }
	line(`.TH "%s" 8 "" "ocspfleet" "ocspfleet manual"`, strings.ToUpper(name))
	line(".SH NAME\n%s \\- %s", roff(name), roff(strings.TrimSuffix(strings.ToLower(program["Summary"][:1])+program["Summary"][1:], ".")))
	line(".SH SYNOPSIS\n.B %s\n[\\-\\-config FILE] [\\-\\-check\\-config]\n.br\n.B %s\n\\-\\-version | \\-\\-help", roff(name), roff(name))
	line(".SH DESCRIPTION\n%s", roff(paragraph(start.Doc)))
	line(".SH OPTIONS\n.TP\n\\fB\\-\\-config\\fR \\fIFILE\\fR\nread the configuration from FILE (default %s)", roff(program["Config"]))
	line(".TP\n\\fB\\-\\-check\\-config\\fR\ndo everything short of listening, tell every fault with file and line, then exit")
	line(".TP\n\\fB\\-\\-version\\fR\nprint version and build, then exit")
	line(".SH CONFIGURATION")
	d.configuration(&b, of)
	line(".SH SIGNALS\nSIGTERM and SIGINT stop it in order: /readyz answers 503, what is in flight is finished. A second one ends it at once.")
	line(".SH EXIT STATUS\n0: stopped as wished, or the configuration is in order. 1: error. 2: wrong usage.")
	line(".SH EXAMPLES\n.nf\n%s\n.fi", roff(program["Example"]))
	line(".SH SEE ALSO\n\\fBocspctl\\fR(1), docs/operations.md")
	return name, b.Bytes(), nil
}

// typeOf is the name of the type of a program's configuration.
func typeOf(program string) string { return strings.ToUpper(program[:1]) + program[1:] }

// File makes the page of a tool's configuration file, section 5, from the type of its
// configuration in the folder configs.
func File(configs, file, tool string) ([]byte, error) {
	of := typeOf(tool)
	d, err := structsIn(configs)
	if err == nil && d[of] == nil {
		err = fmt.Errorf("no file has a type %s", of)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the sources in %s: %w", configs, err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, ".TH \"%s\" 5 \"\" \"ocspfleet\" \"ocspfleet manual\"\n", strings.ToUpper(file))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- configuration of %s\n.SH DESCRIPTION\n", roff(file), roff(tool))
	d.configuration(&b, of)
	fmt.Fprintf(&b, ".SH SEE ALSO\n\\fB%s\\fR(1)\n", roff(tool))
	return b.Bytes(), nil
}

// configuration writes the text of the type and of each of its keys.
func (d structs) configuration(b *bytes.Buffer, of string) {
	about := strings.TrimPrefix(paragraph(d[of].doc), of+" is ")
	fmt.Fprintf(b, "A YAML file. Keys that are not known here are faults. %s\n", roff(about))
	d.keys(b, of, "")
}

// programOf reads the texts of `var program = boot.Program{Name: "...", ...}`.
func programOf(file *ast.File) map[string]string {
	texts := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || spec.Names[0].Name != "program" || len(spec.Values) != 1 {
			return true
		}
		value, ok := spec.Values[0].(*ast.CompositeLit)
		if !ok {
			return false
		}
		for _, e := range value.Elts {
			pair, ok := e.(*ast.KeyValueExpr)
			if !ok {
				continue
			}
			key, isName := pair.Key.(*ast.Ident)
			text, isText := pair.Value.(*ast.BasicLit)
			if isName && isText {
				if unquoted, err := strconv.Unquote(text.Value); err == nil {
					texts[key.Name] = unquoted
				}
			}
		}
		return false
	})
	return texts
}

// structs are the types of a configuration by their names.
type structs map[string]*section

type section struct {
	doc  *ast.CommentGroup
	body *ast.StructType
}

// structsIn are the types in the sources in dir.
func structsIn(dir string) (structs, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	d := structs{}
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		d.collect(file)
	}
	return d, nil
}

func (d structs) collect(file *ast.File) {
	for _, decl := range file.Decls {
		general, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range general.Specs {
			if t, ok := spec.(*ast.TypeSpec); ok {
				if body, ok := t.Type.(*ast.StructType); ok {
					d[t.Name.Name] = &section{general.Doc, body}
				}
			}
		}
	}
}

// keys writes an entry per key of a type, those inside after it.
func (d structs) keys(b *bytes.Buffer, of, before string) {
	for _, field := range d[of].body.Fields.List {
		if field.Tag == nil {
			continue
		}
		tag, err := strconv.Unquote(field.Tag.Value)
		if err != nil {
			continue
		}
		key, options, _ := strings.Cut(reflect.StructTag(tag).Get("yaml"), ",")
		if t, ok := field.Type.(*ast.Ident); ok && options == "inline" && d[t.Name] != nil {
			d.keys(b, t.Name, before)
		}
		if key == "" || key == "-" {
			continue
		}
		inner, list := field.Type, ""
		if array, ok := inner.(*ast.ArrayType); ok {
			inner, list = array.Elt, "[]"
		}
		if m, ok := inner.(*ast.MapType); ok {
			inner, list = m.Value, ".NAME"
		}
		if pointer, ok := inner.(*ast.StarExpr); ok {
			inner = pointer.X
		}
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR\n%s\n", roff(before+key+list), roff(paragraph(field.Doc)))
		if t, ok := inner.(*ast.Ident); ok && d[t.Name] != nil {
			d.keys(b, t.Name, before+key+list+".")
		}
	}
}

// paragraph is a comment as one running text.
func paragraph(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }
