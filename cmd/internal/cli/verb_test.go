package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// common is embedded, and not exported: its flags are the verb's all the same.
type common struct {
	Issuer string `flag:"issuer,required" help:"the issuer's <NAME>"`
}

type sample struct {
	Change
	Given
	common
	Life   time.Duration `flag:"life" help:"how long"`
	Count  int           `flag:"count" help:"at most WORD"`
	Words  []string      `flag:"word" help:"as it is"`
	Parts  []string      `flag:"part,split" help:"at commas"`
	Forks  []int64       `flag:"fork" help:"numbers"`
	Site   string        `arg:"SITE"`
	Others []string      `arg:"[OTHER...]"`

	run func(*sample) error
}

func (sample) Doc() Doc {
	return Doc{Name: "add", Short: "put it there", Long: "It stays.", Example: "tool thing add site-a", Exclusive: "word part"}
}

func (v *sample) Run(context.Context, *Program) error { return v.run(v) }

// tool runs a command line of one noun with one verb.
func tool(t *testing.T, run func(*sample) error, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, fault strings.Builder
	p := &Program{Stdout: &out, Stderr: &fault, Data: io.Discard, Meter: io.Discard, Now: time.Now, NoRetry: io.ErrNoProgress}
	root := p.Root("tool", "a tool", "/etc/tool.yaml", p.Verbs("thing", "things", &sample{Life: time.Hour, run: run}))
	code = p.Run(t.Context(), root, args)
	return code, out.String(), fault.String()
}

func TestVerbHasItsFlagsAndArguments(t *testing.T) {
	var got sample
	code, _, stderr := tool(t, func(v *sample) error { got = *v; return nil },
		"thing", "add", "site-a", "b", "c", "--issuer", "one", "--part", "x,y", "--fork", "3", "--fork", "4", "--count", "0", "--apply", "--why", "so")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if got.Issuer != "one" || got.Life != time.Hour || got.Site != "site-a" || fmt.Sprint(got.Others, got.Parts, got.Forks) != "[b c] [x y] [3 4]" {
		t.Errorf("%+v", got)
	}
	if !got.Given.Given("count") || got.Given.Given("life") {
		t.Error("what was given is not known")
	}
	if o := got.Outcome(true); o != NewOutcome("thing add", true, true) {
		t.Errorf("%+v", o)
	}
}

func TestExitCodes(t *testing.T) {
	for _, test := range []struct {
		args []string
		err  error
		code int
		says string
	}{
		{[]string{"thing", "add", "a", "--issuer", "one"}, nil, 0, ""},
		{[]string{"thing", "add", "a", "--issuer", "one"}, errors.New("away"), 1, "tool: away\n"},
		{[]string{"thing", "add", "a", "--issuer", "one"}, Usagef("odd"), 2, "tool: odd (--help shows how)\n"},
		{[]string{"thing", "add", "a", "--issuer", "one"}, fmt.Errorf("sites: %w", Wrongf("ill")), 3, "tool: sites: ill\n"},
		{[]string{"thing", "add", "a", "--issuer", "one"}, fmt.Errorf("token: %w", io.ErrNoProgress), 4, "tool: token: "},
		{[]string{"thing", "add", "a"}, nil, 2, `required flag(s) "issuer" not set`},
		{[]string{"thing", "add", "--issuer", "one"}, nil, 2, "requires at least 1 arg(s)"},
		{[]string{"thing", "ad"}, nil, 2, `no "ad" here: did you mean add? (want one of add)`},
		{[]string{"thing", "add", "--isuer", "one"}, nil, 2, "did you mean --issuer?"},
		{[]string{"thing", "add", "a", "--issuer", "one", "--word", "x", "--part", "y"}, nil, 2, "word part"},
		{[]string{"thing", "--output", "json"}, nil, 2, `{"error":"tool thing: want one of add (--help shows how)","exit_code":2}`},
	} {
		code, _, stderr := tool(t, func(*sample) error { return test.err }, test.args...)
		if code != test.code || !strings.Contains(stderr, test.says) {
			t.Errorf("%q, %v: exit code %d, %s", test.args, test.err, code, stderr)
		}
	}
}

func TestHelpBeginsWithTheLine(t *testing.T) {
	_, help, _ := tool(t, nil, "thing", "add", "--help")
	for _, want := range []string{"Put it there.\n\nIt stays.", "tool thing add SITE [OTHER...] [flags]", "--issuer NAME", "--apply", "(default 1h0m0s)"} {
		if !strings.Contains(help, want) {
			t.Errorf("no %q in\n%s", want, help)
		}
	}
}

// One record is a line of JSON, lines, and a row.
func TestRecordServesTableAndJSON(t *testing.T) {
	at := time.Date(2026, 11, 22, 15, 4, 5, 6, time.FixedZone("", 3600))
	record := func(n int) Record {
		return Record{
			F("n", "N", n), F("at", "AT", at), F("none", "NONE", time.Time{}), F("hash", "", []byte{1, 255}), Shown("took", "TOOK", 1.5, "1s"),
			Maybe("why", "WHY", ""), Some("bad", "BAD", 0), F("list", "LIST", []string{"a", "b"}), F("empty", "", []string(nil)), F("", "SAID", true),
			F("raw", "", json.RawMessage(`{"a": "<b>"}`)), F("kind", "", Kind("k")),
		}
	}
	for output, want := range map[string]string{
		"json":  `{"action":"a","applied":false,"changed":true,"n":1,"at":"2026-11-22T14:04:05Z","none":null,"hash":"01ff","took":1.5,"why":null,"bad":0,"list":["a","b"],"empty":[],"raw":{"a":"<b>"},"kind":"k","all":[{"n":2}]}` + "\n",
		"table": "N     1\nAT    2026-11-22T14:04:05Z\nNONE  -\nTOOK  1s\nLIST  a, b\nSAID  yes\nNUMBER\n2\nNothing was done: this is the plan. --apply does it.\n",
	} {
		var out strings.Builder
		p := &Program{Stdout: &out, Output: output, OneLine: true}
		if err := p.ShowChange(NewOutcome("a", false, true), record(1), Said(func(t *Table) { t.flush() }), List("all", []int{2}, func(n int) Record { return Record{F("n", "NUMBER", n)} })); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%s:\n%s\nwant\n%s", output, out.String(), want)
		}
	}
}

// Kind is a text by another name.
type Kind string
