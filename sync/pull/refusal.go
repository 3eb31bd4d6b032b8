package pull

import (
	"errors"
	"fmt"

	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
)

// refusal is a snapshot, with the segments up to a number, that the copy must not apply because of
// the corrections that a key set admits: it is not fetched again and again.
type refusal struct {
	tag    string
	keys   int64
	number int64
	why    error
}

// of says why a snapshot was refused already.
func (r refusal) of(signed []byte, keys *feed.KeySet, c *feed.Checkpoint) error {
	if r.why == nil || r.tag != feedhttp.Tag(signed) || r.keys != keys.Number || r.number != c.Number {
		return nil
	}
	return r.why
}

// orLost returns the reason for leaving a source that showed a step which the copy must not apply,
// and no snapshot that helps.
func (p *Puller) orLost(err error) error {
	if p.lost == nil || errors.Is(err, errLocal) {
		return err
	}
	return fmt.Errorf("%w; its snapshot does not help: %v", p.lost, err)
}
