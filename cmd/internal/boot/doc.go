// Package boot starts and stops a daemon: it reads the configuration strictly,
// makes the logger, listens for the admin, and ends everything in order when a
// signal comes. It owns no domain word; what a program does is wired in its main.
//
// It trusts the configuration file's author and whoever reaches the admin
// listener, which is why that one stays on loopback. It promises that a wished
// stop breaks no answer in flight: /readyz turns 503, the drain delay passes,
// the servers finish their requests, then the workers end, then what was opened
// first is closed last.
package boot
