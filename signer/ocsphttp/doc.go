// Package ocsphttp serves a signer.Responder over HTTP (RFC 9919 sections 5 and 7), and
// beside it the CRLs of responder certificates (RFC 5280 section 5).
//
// It trusts the Responder with what it answers, and the pinned certificates with the
// CRLs; the client and whoever writes the site's copy with nothing.
//
// It promises: what is OCSP gets HTTP 200 and the very octets of the Responder, by GET,
// HEAD and POST alike; no cache may keep an answer for longer than it is true, and none
// keeps an error; a CRL is handed out only if the pinned key signed it, and none of a
// lower number before the other has ended.
//
// Read server.go (limits of the listener), http.go (requests in, headers out), getpath.go
// (the request in a path), crl.go.
package ocsphttp
