package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
)

// serveBare is the yardstick: net/http and chi, one map look-up, an answer of
// the usual size with the usual headers. It runs as a process of its own.
func serveBare(port, size string) error {
	n, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	body := make([]byte, n)
	known := map[string][]byte{}
	mux := chi.NewRouter()
	mux.Get("/*", func(w http.ResponseWriter, r *http.Request) {
		answer, found := known[r.URL.Path]
		if !found {
			answer = body
		}
		h := w.Header()
		h.Set("Content-Type", "application/ocsp-response")
		h.Set("Content-Length", strconv.Itoa(len(answer)))
		_, _ = w.Write(answer)
	})
	return http.ListenAndServe("127.0.0.1:"+port, mux)
}

// startBare starts the yardstick and returns when it accepts connections.
func startBare(port, size int) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-bare", strconv.Itoa(port), "-size", strconv.Itoa(size))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for range 100 {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return cmd, conn.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = cmd.Process.Kill()
	return nil, fmt.Errorf("the yardstick did not listen on port %d", port)
}
