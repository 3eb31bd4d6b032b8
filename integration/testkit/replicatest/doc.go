// Package replicatest is what every way of keeping a site's copy in step with the master
// must do alike: each way's own test calls Exercise with its Source.
//
// It owns the ten cases and Line, the way to the master that a test cuts. It believes
// nothing that a source says of itself but for counts: rows are compared with the master's,
// recounted. It waits for states, never for a time.
//
// Read replicatest.go first, then cases.go and repair.go (the cases), line.go.
package replicatest
