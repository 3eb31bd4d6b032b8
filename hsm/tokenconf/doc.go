// Package tokenconf is the part of PKCS#11 tokens that needs no library: a token's name (RFC
// 7512), its configuration, its PIN file, and SoftHSM's own files.
//
// It trusts the configuration, and the owner of the folder in which refused PINs are recorded.
// It promises: a PIN is in no error and in no note. A PIN that the token refused is not offered
// again, by any process, before its file is changed or touched. No login is made with SoftHSM
// on a full disk, where it would lose its keys.
//
// Read uri.go, config.go, pin.go, then diskspace.go and denied.go.
package tokenconf
