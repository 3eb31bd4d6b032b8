package signer

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"time"

	"golang.org/x/net/netutil"
)

// NewServer returns an HTTP server with the limits of a public OCSP listener.
// Requests are 100 octets and answers 1,500: whoever needs longer is broken or
// hostile. Its own complaints go to logger without client addresses.
func NewServer(h http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:                      h,
		ReadHeaderTimeout:            5 * time.Second,
		ReadTimeout:                  10 * time.Second,
		WriteTimeout:                 10 * time.Second, // more than Config.SignTimeout; BR 4.10.2: answers within 10 s
		IdleTimeout:                  60 * time.Second, // a proxy in front closes earlier
		MaxHeaderBytes:               8 << 10,
		DisableGeneralOptionsHandler: true, // "OPTIONS *" is as wrong as any other
		ErrorLog:                     log.New(complaints{logger}, "", 0),
	}
}

// LimitListener accepts at most n connections at once; more wait in the kernel's
// queue. n x (4 KiB + 4 KiB of net/http's buffers + stacks) is about 16 KiB each.
func LimitListener(l net.Listener, n int) net.Listener { return netutil.LimitListener(l, n) }

// complaints turns the text of net/http into log entries. A slow or broken
// client is none of the operator's business: debug.
type complaints struct{ logger *slog.Logger }

// clientAddress is where net/http names a client: "from ADDR", "serving ADDR",
// "ADDR->ADDR" in errors of the net package.
var clientAddress = regexp.MustCompile(`(from|serving) \S+|\S+->\S+`)

func (c complaints) Write(text []byte) (int, error) {
	level := slog.LevelDebug
	if bytes.Contains(text, []byte("panic")) || bytes.Contains(text, []byte("Accept error")) {
		level = slog.LevelError
	}
	c.logger.Log(context.Background(), level, "http server complained",
		slog.String("text", clientAddress.ReplaceAllString(string(bytes.TrimSpace(text)), "(client)")))
	return len(text), nil
}
