// Package signertest is a site for tests of the signer and of its HTTP side: a CA, a
// copy in memory, a token in memory with its faults, and a clock that the test sets. It
// does not know the signer itself, whose own tests use it.
package signertest
