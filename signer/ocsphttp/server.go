package ocsphttp

import (
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// NewServer returns an HTTP server with the limits of a public OCSP listener. Requests are 100
// octets and answers 1,500: a client that needs more time is broken or hostile. The server's
// own errors go to logger without client addresses.
func NewServer(h http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:                      h,
		ReadHeaderTimeout:            5 * time.Second,
		ReadTimeout:                  10 * time.Second,
		WriteTimeout:                 10 * time.Second, // more than Config.SignTimeout; BR 4.10.2: answers within 10 s
		IdleTimeout:                  60 * time.Second, // a proxy in front closes earlier
		MaxHeaderBytes:               8 << 10,
		DisableGeneralOptionsHandler: true, // "OPTIONS *" is refused like any other method
		ErrorLog:                     slog.NewLogLogger(complaints{logger.Handler()}, slog.LevelDebug),
	}
}

// complaints turns net/http's messages into log entries. A slow or broken client is logged at
// debug: it is no matter for the operator.
type complaints struct{ slog.Handler }

// clientAddress is where net/http names a client: "from ADDR", "serving ADDR",
// "ADDR->ADDR" in errors of the net package.
var clientAddress = regexp.MustCompile(`(from|serving) \S+|\S+->\S+`)

// Enabled passes every message to Handle, which sets its level.
func (c complaints) Enabled(context.Context, slog.Level) bool { return true }

// Handle sets the level of a message and passes it on without client addresses.
func (c complaints) Handle(ctx context.Context, said slog.Record) error {
	level := slog.LevelDebug
	if strings.Contains(said.Message, "panic") || strings.Contains(said.Message, "Accept error") {
		level = slog.LevelError
	}
	if !c.Handler.Enabled(ctx, level) {
		return nil
	}
	entry := slog.NewRecord(said.Time, level, "http server complained", said.PC)
	entry.AddAttrs(slog.String("text", clientAddress.ReplaceAllString(strings.TrimSpace(said.Message), "(client)")))
	return c.Handler.Handle(ctx, entry)
}
