// Package signer turns the octets of an OCSP request into the octets of an
// answer (RFC 6960, profiled by RFC 9919; nonces by RFC 9654). It owns the
// decision what to say (decide.go), the identities that sign (identity.go) and
// the cache of signatures (cache.go). Package ocsphttp serves it over HTTP.
//
// Whom it trusts:
//
//   - The pinned issuer certificates are trusted: only issuers that the site's
//     own configuration names are answered for, and a responder certificate is
//     used only with a signature of the pinned key.
//   - The Source is trusted: whoever can write to the copy can make this site
//     lie until its responder certificate ends. What can be checked is checked:
//     a copy in doubt, too old or from the future says neither good nor unknown.
//   - Lookup, if there is one, is trusted for serials that the copy does not have, and
//     for minutes: what it says was verified by whoever implements it.
//   - The Keyring is trusted with the key, not with time: a key that fails,
//     hangs or is busy costs one tryLater, never a hang.
//   - The client is not trusted with anything.
//
// What it promises: no answer claims more than the copy knew (thisUpdate comes
// from the horizon), no good for a serial that was revoked in this copy,
// or never issued in it and by what Lookup answers, no signed answer whose
// nextUpdate is past or later than the end of its signer, one SingleResponse
// for each CertID asked, echoed byte for byte, and always an answer: what
// cannot be said is an OCSP error.
//
// The status is looked up for every request. The cache saves the signature
// alone, and its key is what the answer says, so a revocation needs no message
// to empty it.
//
// Read responder.go (one answer), issuer.go (whose), decide.go with br.go and
// lookup.go (what), cache.go and sign.go (its signature), then identity.go and
// refresh.go (who signs), run.go (readiness) and metrics.go.
package signer
