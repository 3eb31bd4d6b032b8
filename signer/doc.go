// Package signer turns the octets of an OCSP request into the octets of an
// answer (RFC 6960, profiled by RFC 9919; nonces by RFC 9654). It owns the
// decision what to say (decide.go), the identities that sign (identity.go) and
// the cache of signatures (cache.go). Package ocsphttp serves it over HTTP.
//
// What it trusts:
//
//   - The pinned issuer certificates are trusted. Only issuers that the site's own
//     configuration names get answers, and a responder certificate is used only with a
//     signature of the pinned key.
//   - The Source is trusted: with write access to the copy an attacker can make this site lie
//     until its responder certificate ends. What can be checked is checked: a copy in doubt,
//     too old or from the future gives neither good nor unknown.
//   - Lookup, if there is one, is trusted for serials that the copy does not have, and for
//     minutes: its implementation verifies the answers.
//   - The Keyring is trusted with the key, not with time: a key that fails, hangs or is busy
//     costs one tryLater, never a hang.
//   - The client is not trusted.
//
// What it promises: no answer claims more than the copy knew (thisUpdate comes from the
// horizon). No good for a serial that was revoked in this copy, or that was never issued
// according to both the copy and Lookup. No signed answer whose nextUpdate is past or later
// than the end of its signer. One SingleResponse for each CertID asked, echoed byte for byte.
// Every request gets an answer: where no status can be given, it is an OCSP error.
//
// The status is looked up for every request. The cache saves only the signature, and its key is
// the content of the answer, so a revocation needs no message to empty the cache.
//
// Read responder.go (one answer), issuer.go (which issuer), decide.go with br.go and lookup.go
// (which status), cache.go and sign.go (the signature), then identity.go and refresh.go (the
// signers), run.go (readiness) and metrics.go.
package signer
