// Command ocspfleet starts a whole OCSP fleet on this machine: CA, master and sites, all on
// 127.0.0.1. It is for developers, tests and newcomers, never for production; package devfleet
// does the work.
//
// It owns the command line and the story of the demo. It trusts the folder of the fleet (--dir),
// in which an earlier run noted its processes and ports.
//
// It promises: no daemon inherits an open file of the caller. The demo exits with 0 only if it saw
// all that it tells, and removes its fleet however it ends.
//
// Read main.go first, then up.go and inspect.go (down, status, logs); demo.go with story.go and
// transcript.go.
package main
