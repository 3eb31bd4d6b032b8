package replica

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestACountIsWantedWhenNumbersDoNotAddUp(t *testing.T) {
	p := Pace{Regular: time.Hour, Readings: 2, Gap: time.Second, Counts: 2}
	p.Copied(noon)
	at := func(seq, position int64) bool {
		p.Observe(seq - position)
		return p.Wanted(noon)
	}
	for _, c := range []struct {
		what          string
		seq, position int64
		want          bool
	}{
		{"first look", 1000, 500, false},
		{"rows from the master", 1010, 510, false},
		{"a batch half way", 1050, 510, false},
		{"the batch is there", 1050, 550, false},
		{"a local write", 1051, 550, false},
		{"is still there", 1061, 560, true},
	} {
		if got := at(c.seq, c.position); got != c.want {
			t.Errorf("%s: wanted %v", c.what, got)
		}
	}
	p.Copied(noon)
	if at(1000, 500) || at(1000, 501) || !at(1000, 501) {
		t.Error("a change that PostgreSQL skipped: not suspected, or too early")
	}
	p.Counting()
	p.Counted(noon, time.Millisecond)
	if at(1000, 501) {
		t.Error("counted again although the last count was just now")
	}
	if p.Compared(false) || !p.Wanted(noon) || !p.Compared(false) {
		t.Error("the first unequal count is believed, or the second is not")
	}
	if p.Compared(true) {
		t.Error("an equal count is believed to be unequal")
	}
	for look := range 2 {
		if at(1000, 501) {
			t.Errorf("look %d: what a count found equal is suspected again", look)
		}
	}
	p.Wrote(1000) // from 1000 - 501
	for look := range 2 {
		if at(2000, 501) {
			t.Errorf("look %d: our own writing is suspected", look)
		}
	}
	p.Now()
	if !p.Wanted(noon) {
		t.Error("a count that was asked for is not wanted")
	}
}

// What a count found is mended without being broken off by the suspicion that led to it.
func TestACountAnswersTheSuspicion(t *testing.T) {
	for what, told := range map[string]func(*Pace){
		"unequal": func(p *Pace) {
			if !p.Compared(false) {
				t.Error("an unequal count is not believed")
			}
		},
		"failed": func(*Pace) {},
	} {
		p := Pace{Regular: time.Hour, Readings: 1, Gap: time.Second, Counts: 1}
		p.Copied(noon)
		p.Observe(1)
		if p.Observe(2); !p.Suspected(noon) {
			t.Fatal("a foreign write is not suspected")
		}
		p.Counting()
		p.Counted(noon, time.Millisecond)
		told(&p)
		if p.Observe(2); p.Suspected(noon.Add(time.Minute)) {
			t.Errorf("%s: it is suspected again", what)
		}
		p.Counting()
		p.Observe(3)
		p.Counted(noon, time.Millisecond)
		told(&p)
		if p.Observe(3); !p.Suspected(noon.Add(time.Minute)) {
			t.Errorf("%s: what was written while it counted is not suspected", what)
		}
	}
}

// A count of a large copy is regular for a hundredth of the time, on suspicion for a
// twentieth.
func TestALargeCopyIsCountedSeldom(t *testing.T) {
	p := Pace{Regular: time.Minute, Readings: 1, Gap: time.Second, Counts: 1}
	p.Copied(noon)
	p.Counted(noon, 2*time.Second)
	if p.Wanted(noon.Add(199*time.Second)) || !p.Wanted(noon.Add(200*time.Second)) {
		t.Error("the regular count is not 100 times its duration away")
	}
	p.Observe(1)
	p.Observe(2)
	if p.Wanted(noon.Add(39*time.Second)) || !p.Wanted(noon.Add(40*time.Second)) {
		t.Error("the one on suspicion is not 20 times its duration away")
	}
}
