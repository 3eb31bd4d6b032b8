package hsm

import (
	"bytes"
	"fmt"

	"github.com/miekg/pkcs11"
)

// DeleteKey removes both halves of a key that Keys listed, for ever. It finds the objects by
// their CKA_ID, and refuses a key that has none or shares it with another key.
func (t *Token) DeleteKey(key KeyInfo) error {
	keys, err := t.Keys()
	if err != nil {
		return err
	}
	same := 0
	for _, other := range keys {
		if bytes.Equal(other.ID, key.ID) {
			same++
		}
	}
	if len(key.ID) == 0 || same != 1 {
		return fmt.Errorf("deleting key %q from token %s: its id %x names %d keys, not this one alone: use the token's own tool", key.Label, t.conf.Name(), key.ID, same)
	}
	_, err = once(t, t.times.generate, func(*connection) (struct{}, error) { return struct{}{}, t.destroy(key.ID) })
	if err != nil {
		return fmt.Errorf("deleting key %q from token %s: %w", key.Label, t.conf.Name(), err)
	}
	return nil
}

func (t *Token) destroy(id []byte) error {
	return t.inSession(func(p *pkcs11.Ctx, session pkcs11.SessionHandle) error { return destroy(p, session, id) })
}
