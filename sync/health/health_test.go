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
		err := Every(ctx, func() time.Duration { return time.Minute }, &trouble, func(text string) { told = append(told, text) }, func(context.Context) error {
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
