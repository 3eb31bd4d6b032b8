package main

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"ocspfleet/sync/feed"
)

// showRetired writes what a retired key signed as feed keys sign takes it:
// EPOCH:NUMBER:HASH of a feed key's last segment, COUNT:HASH of corrections.
func showRetired(r *feed.Retired) string {
	switch {
	case r == nil:
		return ""
	case r.Epoch != 0:
		return fmt.Sprintf("%d:%d:%x", r.Epoch, r.Number, r.Hash[:])
	}
	return fmt.Sprintf("%d:%x", r.Number, r.Hash[:])
}

// parseRetired reads what showRetired wrote.
func parseRetired(flag, text string) (*feed.Retired, error) {
	parts := strings.Split(text, ":")
	r := &feed.Retired{}
	var err error
	if flag == "key" && len(parts) == 3 {
		r.Epoch, err = strconv.ParseInt(parts[0], 10, 64)
		parts = parts[1:]
	} else if flag != "correct" {
		return nil, strconv.ErrSyntax
	}
	if err == nil && len(parts) != 2 {
		return nil, strconv.ErrSyntax
	}
	if err == nil {
		r.Number, err = strconv.ParseInt(parts[0], 10, 64)
	}
	if err != nil {
		return nil, err
	}
	raw, err := hex.DecodeString(parts[1])
	if err == nil && len(raw) != len(r.Hash) {
		err = strconv.ErrSyntax
	}
	copy(r.Hash[:], raw)
	return r, err
}
