// Package ocsphttp serves a signer.Responder over HTTP (RFC 9919 sections 5 and 7), and
// the CRLs of responder certificates (RFC 5280 section 5).
//
// It trusts the Responder for its answers, and the pinned certificates for the CRLs. It does
// not trust the client, nor anyone with write access to the site's copy.
//
// It promises: every OCSP request gets HTTP 200 and the exact octets of the Responder, by GET,
// HEAD and POST alike. No cache may keep an answer for longer than it is true, and none may
// keep an error. A CRL is served only if the pinned key signed it, and not before a current one
// with a higher number has ended.
//
// Read server.go (limits of the listener), http.go (requests in, headers out), getpath.go (the
// request in a path), crl.go.
package ocsphttp
