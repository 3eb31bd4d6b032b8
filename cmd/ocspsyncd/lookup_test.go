package main

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// A socket that a killed predecessor left is taken over; one that lives, or what is no
// socket, is not.
func TestListenSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ask.sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	if _, err := listenSocket(t.Context(), path); err == nil {
		t.Error("a socket in use was taken over")
	}
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := listenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket(t.Context(), path); err == nil {
		t.Error("a file was taken for a socket")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("the file holds %q, %v", text, err)
	}
	if _, err := listenSocket(t.Context(), filepath.Join(t.TempDir(), "none", "ask.sock")); err == nil {
		t.Error("it listens in a folder that is not there")
	}
}
