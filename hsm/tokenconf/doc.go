// Package tokenconf is what is to know of a PKCS#11 token without its library: how it is
// named (RFC 7512), how it is configured, the file of its PIN, and SoftHSM's own files.
//
// It trusts the configuration, and the folder in which refused PINs are remembered, with
// its owner's rights. It promises: a PIN is in no error and in no note; a PIN that the
// token refused is not offered again, by any process, before its file was touched; no
// login is asked of SoftHSM on a full disk, where it would lose its keys.
//
// Read uri.go, config.go, pin.go, then diskspace.go and denied.go.
package tokenconf
