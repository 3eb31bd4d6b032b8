package boot_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"ocspfleet/cmd/internal/boot"
)

// evil is what a peer may have said: a title, C1, a line of its own, the wrong way round.
const evil = "502: \x1b]0;owned\x07\u009b31m\n\u202eenif\u2028"

// obeyed are the characters in evil that a terminal obeys; our own line ends are not.
const obeyed = "\x1b\x07\u009b\u202e\u2028"

func TestLogsAreForEyes(t *testing.T) {
	for _, text := range []bool{true, false} {
		var out bytes.Buffer
		log := boot.NewLogger(&out, text, slog.LevelInfo)
		log.Warn(evil, slog.Any("reason", errors.New(evil)), slog.Any("octets", []byte(evil)), slog.Group(evil, slog.String(evil, evil)))
		if strings.ContainsAny(out.String(), obeyed) || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("text %v: %q", text, out.String())
		}
		if !text {
			var line struct{ Msg, Reason string }
			if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Msg != evil || line.Reason != evil {
				t.Errorf("the line no longer says what was logged: %v, %+v", err, line)
			}
		}
	}
}

func TestErrorsOfADaemonAreForEyes(t *testing.T) {
	code, stdout, stderr := runMain(t, func(context.Context, boot.Env) error { return errors.New(evil) })
	if code != boot.ExitError || strings.ContainsAny(stdout+stderr, obeyed) || !strings.Contains(stderr, `\u001b]0;owned\u0007\u009b31m`) {
		t.Errorf("%d, %q, %q", code, stdout, stderr)
	}
	if code, stdout, stderr = runMain(t, nil, evil); code != boot.ExitUsage || strings.ContainsAny(stdout+stderr, obeyed) {
		t.Errorf("%d, %q, %q", code, stdout, stderr)
	}
}

func TestReadyzIsForEyes(t *testing.T) {
	admin := boot.Admin{Metrics: prometheus.NewRegistry(), Ready: func(context.Context) []string { return []string{evil} }}
	answer := httptest.NewRecorder()
	admin.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "http://127.0.0.1/readyz", nil))
	var body struct{ Reasons []string }
	if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil || len(body.Reasons) != 1 || body.Reasons[0] != evil || strings.ContainsAny(answer.Body.String(), obeyed) {
		t.Errorf("%v, %q", err, answer.Body)
	}
}
