package feedhttp

import (
	"testing"

	"ocspfleet/db"
)

// A server puts news together from what was posted, without its database.
func TestNewsNeedNoDatabaseForWhatWasPosted(t *testing.T) {
	latest := &Latest{}
	post := func(epoch, number int64) db.FeedNote {
		n := db.FeedNote{Epoch: epoch, Number: number, Position: 10 * number, Note: []byte{byte(epoch), byte(number)}}
		latest.PublishSegment(n, &db.Segment{Epoch: epoch, Number: number, Note: n.Note, Body: []byte{byte(number)}})
		return n
	}
	first := post(1, 1)
	last := first
	for number := int64(2); number <= remembered+1; number++ {
		last = post(1, number)
	}
	server := &Server{cfg: ServerConfig{Latest: latest}}
	got := server.between(t.Context(), first, last)
	if len(got) != remembered || got[0].Body[0] != 2 || got[remembered-1].Body[0] != remembered+1 {
		t.Errorf("news hold %d segments, want 2 to %d: %v", len(got), remembered+1, got)
	}
	if _, there := latest.segment(1, 1); there {
		t.Error("it remembers more than it should")
	}
	if _, there := latest.segment(2, last.Number); there {
		t.Error("a segment of one epoch stands for another's")
	}
	post(2, 1)
	if _, there := latest.segment(2, last.Number); there {
		t.Error("a segment of the earlier epoch is still there")
	}
	latest.Clear()
	if _, there := latest.segment(2, 1); there {
		t.Error("it has, when cleared, a segment")
	}
}
