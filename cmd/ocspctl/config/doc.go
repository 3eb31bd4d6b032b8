// Package config is the noun of ocspctl that looks at a configuration, its own or a
// daemon's.
//
// It trusts nobody with another one's keys: a daemon judges its own file, so that no rule
// stands twice. It promises to change nothing, and to tell all faults at once with their line.
//
// In reading order: config.go, daemon.go.
package config
