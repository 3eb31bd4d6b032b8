// Package catest is what tests of a CA and of its sites begin with: a CA's certificate,
// a site's request, and a master that has the issuer. It knows nothing of the code that
// issues, whose own tests use it, too.
package catest
