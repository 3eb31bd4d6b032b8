// Package front stands before a listener that anybody may reach, and bounds what its
// clients hold: all connections together, and those of one client that keep the server
// waiting. A connection is half-open until a whole request, its body included, has
// come; then a request is worked on; then it is idle. One rule serves for both bounds:
// where there is one too many, the one that has waited longest is closed, never one
// that is worked on. So who opens thousands of slow requests closes his own, and a
// client whose request comes at network speed is served.
//
// It trusts the configured proxies to name their clients, by the PROXY protocol
// (proxy-protocol.txt of HAProxy, versions 1 and 2) or by one HTTP header, and nobody
// else: what others send of the kind is no PROXY header but a broken request, and a
// header that nobody reads. Connections from loopback and from a trusted proxy itself
// are never closed to make room. Client addresses are counted by, and neither logged
// nor kept.
//
// In reading order: front.go, conn.go (a connection and its state), table.go (which one goes),
// proxy.go (who the client is), metrics.go.
package front
