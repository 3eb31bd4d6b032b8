// Package faultpkcs11 builds a PKCS#11 library that stands before another one and makes
// faults on demand: lost sessions, a token that is pulled out, slow and hanging
// calls, intermittent errors, wrong signatures. It is for tests, and needs gcc.
//
// The faults are asked for by a file, so that they reach a library that another
// process has loaded. They are what the process sees of the token; the token
// behind it is well.
package faultpkcs11

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed testdata/faultpkcs11.c
var source []byte

// Library is one such library.
type Library struct {
	Module  string // its path
	control string // what faults it makes
	log     string // what it notes
}

// Faults are what a Library makes; the zero value is none.
type Faults struct {
	Sessions    int           // when it changes, every open session is lost
	Gone        bool          // the token is pulled out
	Hang        bool          // signatures and logins wait, inside the library, until it is false again
	Delay       time.Duration // each signature takes so much longer; whole milliseconds
	Error       uint          // CKR_ code of the signatures that fail
	ErrorEvery  int           // each n-th fails; 0: none
	FlipEvery   int           // in each n-th a bit is wrong; 0: none
	KeygenError uint          // CKR_ code of every C_GenerateKeyPair; 0: none
}

// Build compiles a Library before the library module, in dir, which must be there
// and have no blank or quotation mark in its path.
func Build(dir, module string) (*Library, error) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		return nil, errors.New("building the faulty PKCS#11 library: gcc is not there: apt install gcc libc6-dev")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("building the faulty PKCS#11 library: %w", err)
	}
	s := &Library{Module: filepath.Join(dir, "faultpkcs11.so"), control: filepath.Join(dir, "faultpkcs11.control"), log: filepath.Join(dir, "faultpkcs11.log")}
	code := filepath.Join(dir, "faultpkcs11.c")
	if err := os.WriteFile(code, source, 0o600); err != nil {
		return nil, fmt.Errorf("building the faulty PKCS#11 library: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, gcc, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-D_GNU_SOURCE",
		fmt.Sprintf("-DREAL=%q", module), fmt.Sprintf("-DCONTROL=%q", s.control), fmt.Sprintf("-DLOG=%q", s.log),
		"-o", s.Module, code, "-ldl", "-lpthread")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the faulty PKCS#11 library: running gcc: %w: %s", err, out)
	}
	return s, s.Set(Faults{})
}

// Set has the library make these faults from its next call on.
func (s *Library) Set(f Faults) error {
	flag := map[bool]int{true: 1}
	text := fmt.Sprintf("sessions %d\ngone %d\nhang %d\ndelay_ms %d\nerror %d\nerror_every %d\nflip_every %d\nkeygen_error %d\n",
		f.Sessions, flag[f.Gone], flag[f.Hang], f.Delay.Milliseconds(), f.Error, f.ErrorEvery, f.FlipEvery, f.KeygenError)
	// By a rename: the library never reads half a file.
	if err := os.WriteFile(s.control+".new", []byte(text), 0o600); err != nil {
		return fmt.Errorf("setting faults: %w", err)
	}
	if err := os.Rename(s.control+".new", s.control); err != nil {
		return fmt.Errorf("setting faults: %w", err)
	}
	return nil
}

// Noted counts what the library noted: "login", "login refused", "error made",
// "bit flipped".
func (s *Library) Noted(what string) (int, error) {
	text, err := os.ReadFile(s.log)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading what the faulty PKCS#11 library noted: %w", err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if line == what+"\n" {
			n++
		}
	}
	return n, nil
}
