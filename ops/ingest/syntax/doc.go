// Package syntax reads files piece by piece and knows nothing about certificates: lines, tables
// of CSV or tabs, dumps by mysqldump, PEM, and a directory as a tar.
//
// It trusts nothing in a file. It promises: memory stays bounded, however long a file, a line
// or a token is. A fault is reported with its place and never skipped silently.
//
// Read place.go, mark.go (UTF-8 or not), lines.go, table.go, dump.go, pem.go, tarof.go.
package syntax
