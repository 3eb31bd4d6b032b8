// Package script holds what the programs' scripts (testdata/*.txtar) have in common.
package script

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// Awaits is the command `awaits URL TEXT`: it polls the URL until status and body hold
// the text, a minute at most.
func Awaits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: awaits URL TEXT")
	}
	var last string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		response, err := http.Get(args[0])
		if err != nil {
			last = err.Error()
			continue
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if last = fmt.Sprintf("%s %s", response.Status, body); err == nil && strings.Contains(last, args[1]) {
			return
		}
	}
	ts.Fatalf("%s never held %q; last: %s", args[0], args[1], last)
}

// Expand is the command `expand FILE...`: it puts the environment into files.
func Expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

// FreeAddr returns an address of this machine, HOST:PORT, where nobody listens.
func FreeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err) // a machine without a free port runs no test
	}
	defer l.Close()
	return l.Addr().String()
}

// As is a DSN with another user and no password.
func As(dsn, user string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		panic(fmt.Sprintf("the test server's own DSN: %v", err))
	}
	u.User = url.User(user)
	return u.String()
}
