// Package wire reads and writes OCSP in DER, nothing else: from the octets of a request to
// Request, from ResponseData and a signature to the octets of an answer (RFC 6960, profiled by
// RFC 9919; nonces by RFC 9654). It reads no clock, does no I/O, computes no hashes and no
// signatures.
//
// It does not trust requests: every octet comes from the internet. For any input of any length
// it promises: no panic, time and memory bounded by MaxRequestLen, and either a Request that
// obeys the rules below or an error that is ErrMalformed. It trusts its caller for answers: a
// ResponseData is signed as it is.
//
// Requests are read as strict DER: indefinite and non-minimal lengths, trailing data,
// constructed strings and non-minimal INTEGERs are malformed. Five things that DER or RFC 5280
// forbids, or that a responder could refuse, are accepted, because clients in the field send
// them: an explicit version v1, an explicit critical FALSE, an empty list of extensions, a
// requestorName without a signature, and a signature. The last two are checked for their form
// and then ignored (RFC 9919 section 3.1.2).
//
// Checks that need knowledge of issuers are not made here: a CertID with an unknown hash
// algorithm, or with a hash of the wrong length, is parsed; it will match no issuer.
//
// Read wire.go first (the types), then request.go with extension.go; response.go with encoder.go;
// algorithm.go.
package wire
