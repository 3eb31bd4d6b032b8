package syntax

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A dump is the output of mysqldump: CREATE TABLE has the columns, INSERT the rows. One line
// may hold megabytes of rows, so it is read token by token.

// maxToken is how much of a token is kept: no needed column is longer.
const maxToken = 1 << 10

// token is a word, a text in quotes or one character.
type token struct {
	kind byte // 'w' word or number, 'q' quoted by ' or ", 'n' name in `, or the character
	text string
}

// lexer splits SQL into tokens by the rules of MySQL.
type lexer struct {
	in       *bufio.Reader
	line     int64
	begun    bool // "-- MySQL dump" was seen
	complete bool // "-- Dump completed" was seen
}

func (l *lexer) octet() (byte, error) {
	c, err := l.in.ReadByte()
	if c == '\n' {
		l.line++
	}
	return c, err
}

func wordOctet(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '.' || c == '+' || c == '-' || c == '@' || c >= 0x80
}

// next returns io.EOF at the end, and ErrCut if the file ends inside a token.
func (l *lexer) next() (token, error) {
	for {
		c, err := l.octet()
		if err != nil {
			return token{}, err
		}
		following, _ := l.in.Peek(1)
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
		case c == '#', c == '-' && len(following) == 1 && following[0] == '-':
			if err := l.comment(); err != nil {
				return token{}, err
			}
		case c == '/' && len(following) == 1 && following[0] == '*':
			if err := l.longComment(); err != nil {
				return token{}, err
			}
		case c == '\'' || c == '"':
			text, err := l.quoted(c)
			return token{'q', text}, err
		case c == '`':
			text, err := l.quoted(c)
			return token{'n', text}, err
		case wordOctet(c):
			return l.word(c)
		default:
			return token{c, string(c)}, nil
		}
	}
}

func (l *lexer) word(c byte) (token, error) {
	text := []byte{c}
	for {
		following, _ := l.in.Peek(1)
		if len(following) == 0 || !wordOctet(following[0]) {
			return token{'w', string(text)}, nil
		}
		if c, err := l.octet(); err == nil && len(text) < maxToken {
			text = append(text, c)
		}
	}
}

// comment skips the rest of the line.
func (l *lexer) comment() error {
	var text []byte
	for {
		c, err := l.octet()
		if err != nil || c == '\n' {
			l.begun = l.begun || bytes.Contains(text, []byte("MySQL dump")) || bytes.Contains(text, []byte("MariaDB dump"))
			l.complete = l.complete || bytes.Contains(text, []byte("Dump completed"))
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if len(text) < maxToken {
			text = append(text, c)
		}
	}
}

func (l *lexer) longComment() error {
	for before := byte(0); ; {
		c, err := l.octet()
		if errors.Is(err, io.EOF) {
			return ErrCut
		}
		if err != nil || before == '*' && c == '/' {
			return err
		}
		before = c
	}
}

// quoted reads up to the closing quote; a doubled quote, or one after a backslash, is a quote
// in the text. The text is cut after maxToken.
func (l *lexer) quoted(quote byte) (string, error) {
	var text []byte
	for {
		c, err := l.octet()
		if errors.Is(err, io.EOF) {
			return "", ErrCut
		}
		if err != nil {
			return "", err
		}
		switch {
		case c == '\\' && quote != '`':
			if c, err = l.octet(); err != nil {
				return "", ErrCut
			}
		case c == quote:
			following, _ := l.in.Peek(1)
			if len(following) == 0 || following[0] != quote {
				return string(text), nil
			}
			if _, err := l.octet(); err != nil {
				return "", err
			}
		}
		if len(text) < maxToken {
			text = append(text, c)
		}
	}
}

// IsDump says whether a file begins like SQL.
func IsDump(start []byte) bool {
	start = bytes.TrimLeft(start, " \t\r\n")
	for _, begin := range []string{"--", "/*", "insert ", "create ", "drop ", "lock ", "set ", "use "} {
		if len(start) >= len(begin) && bytes.EqualFold(start[:len(begin)], []byte(begin)) {
			return true
		}
	}
	return false
}

// dump reads statements.
type dump struct {
	lexer
	columns map[string][]string // of each table
	row     func(table string, r Record, place Place) error
}

// ReadDump calls row for each row of each INSERT. With an error ErrCut or *sqlError the dump
// cannot be used from line on.
func ReadDump(in *bufio.Reader, row func(table string, r Record, place Place) error) (line int64, err error) {
	d := dump{lexer: lexer{in: in, line: 1}, columns: map[string][]string{}, row: row}
	err = d.read()
	return d.line, err
}

func (d *dump) read() error {
	for {
		t, err := d.next()
		if errors.Is(err, io.EOF) {
			if d.begun && !d.complete {
				return ErrCut
			}
			return nil
		}
		if err == nil {
			switch strings.ToUpper(t.text) {
			case "CREATE":
				err = d.create()
			case "INSERT", "REPLACE":
				err = d.insert()
			case ";":
			default:
				err = d.skip()
			}
		}
		if errors.Is(err, io.EOF) {
			return ErrCut
		}
		if err != nil {
			return err
		}
	}
}

// SQLError says where a file is not a dump.
type SQLError struct{ Text string }

func (e *SQLError) Error() string { return e.Text }

func (d *dump) want(kind byte) error {
	t, err := d.next()
	if err == nil && t.kind != kind {
		return &SQLError{fmt.Sprintf("has %s where %q should stand: is it a dump by mysqldump?", Quote([]byte(t.text)), string(kind))}
	}
	return err
}

// skip skips the rest of a statement.
func (d *dump) skip() error {
	for {
		t, err := d.next()
		if err != nil || t.kind == ';' {
			return err
		}
	}
}

// create reads CREATE TABLE name (`column` type, ...) ...;
func (d *dump) create() error {
	t, err := d.next()
	if err != nil || !strings.EqualFold(t.text, "TABLE") {
		if err == nil && t.kind != ';' {
			err = d.skip()
		}
		return err
	}
	name := ""
	for t.kind != '(' {
		if t, err = d.next(); err != nil {
			return err
		}
		if t.kind == ';' {
			return nil
		}
		if t.kind == 'n' || t.kind == 'w' {
			name = strings.ToLower(t.text)
		}
	}
	var columns []string
	for depth, fresh := 1, true; depth > 0; {
		if t, err = d.next(); err != nil {
			return err
		}
		switch t.kind {
		case '(':
			depth++
		case ')':
			depth--
		case 'n':
			if fresh {
				columns = append(columns, strings.ToLower(t.text))
			}
		}
		fresh = depth == 1 && t.kind == ','
	}
	d.columns[name] = columns
	return d.skip()
}

// insert reads INSERT INTO name [(columns)] VALUES (...), (...);
func (d *dump) insert() error {
	t, err := d.next()
	for err == nil && t.kind == 'w' && !strings.EqualFold(t.text, "INTO") {
		t, err = d.next()
	}
	if err == nil {
		t, err = d.next()
	}
	if err != nil {
		return err
	}
	table := strings.ToLower(t.text)
	columns := d.columns[table]
	if t, err = d.next(); err == nil && t.kind == '(' {
		if columns, err = d.list(); err == nil {
			for i, column := range columns {
				columns[i] = strings.ToLower(column)
			}
			t, err = d.next()
		}
	}
	if err != nil {
		return err
	}
	if !strings.EqualFold(t.text, "VALUES") && !strings.EqualFold(t.text, "VALUE") {
		return &SQLError{fmt.Sprintf("has %s where VALUES should stand: is it a dump by mysqldump?", Quote([]byte(t.text)))}
	}
	r := Record{Columns: map[string]int{}}
	for i, column := range columns {
		r.Columns[column] = i
	}
	return d.values(table, r, len(columns))
}

// values reads the rows of one INSERT; width 0: the columns are not known.
func (d *dump) values(table string, r Record, width int) error {
	for row := int64(1); ; row++ {
		if err := d.want('('); err != nil {
			return err
		}
		place := Place{Line: d.line, Row: row}
		var err error
		if r.fields, err = d.list(); err != nil {
			return err
		}
		if width > 0 && len(r.fields) != width {
			return &SQLError{fmt.Sprintf("has a row of %d values, want %d", len(r.fields), width)}
		}
		if err := d.row(table, r, place); err != nil {
			return err
		}
		switch t, err := d.next(); {
		case err != nil:
			return err
		case t.kind == ';':
			return nil
		case t.kind != ',':
			return &SQLError{fmt.Sprintf("has %s between two rows: is it a dump by mysqldump?", Quote([]byte(t.text)))}
		}
	}
}

// list reads up to the closing bracket. A prefix such as _binary is left out.
func (d *dump) list() ([]string, error) {
	var fields []string
	value, depth := "", 0
	for {
		t, err := d.next()
		if err != nil {
			return nil, err
		}
		switch {
		case t.kind == ')' && depth == 0:
			return append(fields, value), nil
		case t.kind == ',' && depth == 0:
			fields, value = append(fields, value), ""
		case t.kind == '(':
			depth++
		case t.kind == ')':
			depth--
		case t.kind == ';':
			return nil, &SQLError{"ends within a row"}
		default:
			value = t.text
		}
	}
}
