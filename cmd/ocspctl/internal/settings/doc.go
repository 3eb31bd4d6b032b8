// Package settings is what ocspctl makes of its configuration (ops/config): connections,
// zones, ledgers, and the folder in which refused PINs are remembered.
//
// It trusts the file's author. It promises that a file that Check passes can be used by
// every noun, as far as it can be told without opening anything.
//
// Read settings.go, then token.go, rules.go (CAs), dns.go and ocspd.go (ocspd's own file).
package settings
