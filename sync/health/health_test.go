package health

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Each error that is new is told once, the trouble ends with the first step that succeeds,
// and the end of ctx is no trouble.
func TestEveryTellsOfEachChangeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var trouble Trouble
		var told, seen []string
		outcomes := []error{errors.New("a"), errors.New("a"), nil, errors.New("a"), errors.New("b")}
		start := time.Now()
		every := Every{Pause: Always(time.Minute), Trouble: &trouble, Failed: func(text string) { told = append(told, text) }}
		err := every.Run(ctx, func(context.Context) error {
			seen = append(seen, trouble.Get())
			if len(seen) > len(outcomes) {
				cancel()
				return ctx.Err()
			}
			return outcomes[len(seen)-1]
		})
		if err != nil || !slices.Equal(told, []string{"a", "a", "b"}) || !slices.Equal(seen, []string{"", "a", "a", "", "a", "b"}) || trouble.Get() != "b" {
			t.Errorf("told %q, seen %q, trouble %q, %v", told, seen, trouble.Get(), err)
		}
		if took := time.Since(start); took != 5*time.Minute {
			t.Errorf("six steps took %s", took)
		}
	})
}

// A pause may change from step to step, and who is woken waits no longer; the end of ctx
// ends a pause.
func TestEveryPausesAsItIsToldAndWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		wake := make(chan struct{}, 1)
		start, pause := time.Now(), time.Duration(0)
		var steps []time.Duration
		every := Every{Pause: func() time.Duration { return pause }, Wake: wake}
		go func() {
			time.Sleep(5 * time.Second) // amid the third pause
			wake <- struct{}{}
			time.Sleep(time.Second)
			cancel()
		}()
		err := every.Run(ctx, func(context.Context) error {
			steps = append(steps, time.Since(start))
			pause = time.Duration(len(steps)) * time.Second
			return errors.New("nobody asks, and nobody is told")
		})
		if want := []time.Duration{0, time.Second, 3 * time.Second, 5 * time.Second}; err != nil || !slices.Equal(steps, want) {
			t.Errorf("steps at %v, %v, want %v", steps, err, want)
		}
		if took := time.Since(start); took != 6*time.Second {
			t.Errorf("stopped after %v", took)
		}
	})
}
