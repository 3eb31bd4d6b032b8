package replicatest

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
)

// Log is what a source logs, read while it is written.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Logger writes into it.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Contains says whether a text was logged.
func (l *Log) Contains(text string) bool { return strings.Contains(l.String(), text) }

// Count says how often.
func (l *Log) Count(text string) int { return strings.Count(l.String(), text) }
