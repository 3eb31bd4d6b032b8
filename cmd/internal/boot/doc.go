// Package boot starts and stops a daemon: it reads the configuration strictly, makes the
// logger, opens the admin listener, and stops everything in order when a signal comes. It knows
// nothing about certificates; each daemon's main connects its own parts.
//
// It trusts the author of the configuration file and every user who can connect to the admin
// listener, which is why that is on loopback. It promises that an orderly stop breaks no answer
// in progress: /readyz turns 503, the drain delay passes, the servers finish their requests,
// then the workers end, and then the opened parts are closed, the last one first.
package boot
