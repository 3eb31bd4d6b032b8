// Package config is the configuration files of ocspd, ocspsyncd and ocspctl: their keys,
// what holds where a file says nothing, and what is wrong with a value by itself.
//
// It trusts nothing and opens nothing but the certificate of a pinned issuer: it links no
// database, no network and no PKCS#11, so that any program, and the tests' fleets, may know
// every key. What only a room can judge, a pin or a proxy, say, is added by the program
// that links that room; package boot reads the files strictly.
//
// It promises: each key and each default stands once. The manual pages are made from the
// comments of these types.
//
// Read common.go, ocspd.go, ocspsyncd.go with feed.go, ocspctl.go with ca.go and dns.go.
package config
