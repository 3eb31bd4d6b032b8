// Package ca is what the verbs share that work with a CA: its key, taken up by this
// machine's configuration, and the files that travel to a CA without a network and back.
//
// It trusts this machine's configuration with where a CA's key is, and a file from elsewhere
// with nothing. It promises that a token is opened once per run, however many issuers' keys lie
// in it, and closed at the end.
//
// In reading order: ca.go, keys.go, file.go, bundle.go.
package ca
