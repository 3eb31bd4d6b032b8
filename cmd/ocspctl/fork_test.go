package main

import (
	"fmt"
	"strconv"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feed"

	"github.com/rogpeppe/go-internal/testscript"
)

// fork KEY EPOCH SITE: has a feed key of ca.example/status sign two checkpoints that
// contradict each other, and hands them to the master as that site's evidence.
func fork(ts *testscript.TestScript, _ bool, args []string) {
	const origin = "ca.example/status"
	key, err := feed.LoadKey(ts.MkAbs(args[0]), origin)
	ts.Check(err)
	epoch, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	var signed [2][]byte
	for i := range signed {
		c := feed.NewCheckpoint(origin, db.Head{Epoch: epoch, Position: 7, AsOf: time.Now(), AuditCount: 1, AuditHash: make([]byte, 32)}, time.Time{})
		c.KeySet, c.Number, c.Segment = 1, 1, feed.Hash{byte(i)}
		signed[i], err = c.Sign(key)
		ts.Check(err)
	}
	psql(ts, false, []string{fmt.Sprintf(`select feed_fork_report('%s', 'two segments of one number', '\x%x', '\x%x')`, args[2], signed[0], signed[1])})
}
