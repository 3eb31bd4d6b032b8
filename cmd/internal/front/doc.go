// Package front protects a public listener: it bounds all connections together, and those of
// one client that keep the server waiting. A connection is half-open until a whole request,
// with its body, has arrived; then it is working; then idle. Both bounds use one rule: when
// there is one connection too many, the one that has waited longest is closed, never one that
// is working. So a client that opens thousands of slow requests closes its own, and a client
// whose request comes at network speed is served.
//
// It trusts the configured proxies to name their clients, by the PROXY protocol
// (proxy-protocol.txt of HAProxy, versions 1 and 2) or by one HTTP header, and no other peer:
// there a PROXY header is a broken request, and the HTTP header is ignored. Connections from
// loopback and from a trusted proxy itself are never closed to make room. Client addresses are
// used to count, and are neither logged nor stored.
//
// In reading order: front.go, conn.go (a connection and its state), table.go (which one is
// closed), proxy.go (the client's address), metrics.go.
package front
