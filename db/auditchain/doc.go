// Package auditchain is the chain of the master's audit: the canonical bytes of an entry, and
// the verification of a chain. It knows no SQL: who verifies computes the hashes by himself,
// not by functions that the one who tampered could have replaced.
package auditchain
