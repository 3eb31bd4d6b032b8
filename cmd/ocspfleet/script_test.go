package main

import (
	"net"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ocspfleet": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"listen": listen,
		},
	})
}

// listen ADDRESS takes a port until the script ends.
func listen(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp4", args[0])
	ts.Check(err)
	ts.Defer(func() { l.Close() })
}

func TestShellQuotesWhatAShellWouldChange(t *testing.T) {
	for _, c := range []struct {
		want string
		args []string
	}{
		{"bin/ocspctl cert revoke --serial 01ff", []string{"bin/ocspctl", "cert", "revoke", "--serial", "01ff"}},
		{`echo 'lost laptop' 'it'\''s' '' '$HOME'`, []string{"echo", "lost laptop", "it's", "", "$HOME"}},
		{"openssl ocsp -url http://127.0.0.1:18010", []string{"openssl", "ocsp", "-url", "http://127.0.0.1:18010"}},
	} {
		if got := shell(c.args[0], c.args[1:]...); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}
