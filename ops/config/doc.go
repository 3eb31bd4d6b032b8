// Package config has the configuration files of ocspd, ocspsyncd and ocspctl: their keys, their
// defaults, and the checks of single values.
//
// It trusts nothing and opens no file but the certificate of a pinned issuer. It links no
// database, no network and no PKCS#11, so that any program, and the tests' fleets, can use
// every key. Checks that need another package, for example of a pin or a proxy, are added by
// the program that links it; package boot reads the files strictly.
//
// It promises: each key is defined once. A key that is left empty may have its default in the
// package that uses it (sync/pull and sync/logical have such). The manual pages are made from the
// comments of these types.
//
// Read common.go, ocspd.go, ocspsyncd.go with feed.go, ocspctl.go with ca.go and dns.go.
package config
