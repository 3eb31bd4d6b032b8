// Package feedhttp owns the way of the feed over HTTP and TLS: the server at the master and at
// each relay, the client, the pins by which both identify each other, the access list, and the
// newest checkpoint, for which long polls wait (Latest). It only moves octets.
//
// It trusts a TLS key only by its pin: there are no names and no certificate chains. It does not
// trust what a source sends: package feed verifies it, and this package bounds its size and time.
// Only the master itself can deny a site access; a peer's statement about that is ignored.
//
// It promises: a site that was taken off the access list gets no file by a later request, also on
// an open connection, and its long polls end at once. A client is bounded in its requests in
// progress, unless a proxy in front does that. A slow or endless answer ends with an error.
//
// Read serve.go and answer.go first, then identity.go and accesslist.go (who may fetch); latest.go
// and news.go (long polls); client.go; fork.go and clock.go.
package feedhttp
