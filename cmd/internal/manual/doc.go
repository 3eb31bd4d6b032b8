// Package manual writes manual pages (man-pages(7), groff_man(7)): those of a tool
// from its commands, that of a daemon from the sources of its configuration, whose
// field comments are the manual. It is for programs that write pages; no daemon
// links it.
//
// It trusts the sources that it reads. It promises that no text acts as a roff request.
//
// In reading order: manual.go (a tool), daemon.go (a daemon, a file), daemons (the program).
package manual
