// Package doctor is the verb of ocspctl that examines this machine. It gathers the facts
// and shows what ops/doctor finds of them; it changes nothing.
//
// It trusts what it can see for itself: it reads the daemons' files, logs in by their logins,
// opens the token and asks the sources as they would. It promises to change nothing, and to
// offer no PIN that was refused before.
//
// In reading order: doctor.go, feed.go (what ocspsyncd is configured to do).
package doctor
