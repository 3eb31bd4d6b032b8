package hsm

import (
	"strings"
	"testing"
)

// A key goes with both its halves, and no other goes with it.
func TestDeleteKey(t *testing.T) {
	soft := newSoft(t)
	token := openSoft(t, configOf(soft), false)
	makeKey(t, token, P256, "old")
	kept := makeKey(t, token, P256, "new")
	keys, err := token.Keys()
	if err != nil || len(keys) != 2 {
		t.Fatal(keys, err)
	}
	twin := keys[1]
	twin.ID = nil
	if err := token.DeleteKey(twin); err == nil || !strings.Contains(err.Error(), "names 0 keys") {
		t.Errorf("without an id: %v", err)
	}
	if err := token.DeleteKey(keys[1]); err != nil { // in the order of their labels
		t.Fatal(err)
	}
	if err := token.DeleteKey(keys[1]); err == nil {
		t.Error("deleted twice")
	}
	left, err := token.Keys()
	if err != nil || len(left) != 1 || left[0].Label != "new" {
		t.Errorf("left: %v %v", left, err)
	}
	if err := signOnce(kept); err != nil {
		t.Error(err)
	}
	makeKey(t, token, P256, "old") // nothing of it is left: its label is free
}
