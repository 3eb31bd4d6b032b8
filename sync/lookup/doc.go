// Package lookup owns ocspd's question for one serial that its copy does not have: over a Unix
// socket to this site's ocspsyncd, which asks the master. It also has the Bucket, by which
// ocspsyncd limits such questions at sites and at the master.
//
// It does not trust ocspsyncd: it accepts only an answer that a key for answers under the feed
// root has signed, and that is newer than the copy (docs/feed.md).
//
// It promises an answer or an error within Timeout. At most 16 questions are in progress; further
// ones fail at once (ErrBusy). No error names the serial.
//
// Read lookup.go first, then bucket.go.
package lookup
