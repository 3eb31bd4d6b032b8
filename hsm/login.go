package hsm

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"ocspfleet/hsm/tokenconf"
)

// login offers the PIN to the token at that place, unless the token has refused it before.
func (t *Token) login(at place, o tokenconf.PIN) (*connection, error) {
	t.mu.Lock()
	refused, refusal, taken := t.refused, t.refusal, t.taken
	t.mu.Unlock()
	if refusal != nil && o.Mark == refused {
		return nil, refusal
	}
	serial := at.info.SerialNumber
	err := t.conf.RefusedBefore(serial, o.Mark)
	var pending string
	if err == nil {
		pending, err = t.conf.NoteOffer(serial)
	}
	switch {
	case errors.Is(err, tokenconf.ErrPIN):
		return nil, err
	case err != nil && o.Mark != taken:
		return nil, fmt.Errorf("opening token %s: %w", t.conf.Name(), err)
	case err != nil: // the PIN was accepted before: a full disk must not stop recovery
		t.logger.Warn("a refusal of the PIN would be forgotten at the next start", "reason", err)
	}
	l, err := t.dial(t.module.path, t.conf, at, o.Text)
	unsettled := t.conf.NoteOutcome(pending, serial, o.Mark, err)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		t.taken, t.refused, t.refusal = o.Mark, "", nil
	case errors.Is(err, tokenconf.ErrPIN):
		err = errors.Join(err, unsettled)
		t.refused, t.refusal = o.Mark, err
	}
	return l, err
}

// loginAgain offers only the PIN that the connection's login used. If the file has changed
// since, the next connection uses the new PIN.
func (t *Token) loginAgain(p *pkcs11.Ctx, session pkcs11.SessionHandle) error {
	o, err := t.conf.ReadPIN()
	if err != nil {
		return err
	}
	t.mu.Lock()
	taken := t.taken
	t.mu.Unlock()
	if o.Mark != taken {
		return fmt.Errorf("the PIN file %s has changed since the login: start this program again", t.conf.PINFile)
	}
	pending, err := t.conf.NoteOffer(t.info.Serial)
	if err != nil {
		return err
	}
	err = p.Login(session, pkcs11.CKU_USER, o.Text)
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		err = nil
	}
	if fix, refused := pinRefused(err); refused {
		err = fmt.Errorf("logging in once more with the PIN of %s: %w (%w): %s", t.conf.PINFile, tokenconf.ErrPIN, err, fix)
	}
	unsettled := t.conf.NoteOutcome(pending, t.info.Serial, o.Mark, err)
	if errors.Is(err, tokenconf.ErrPIN) {
		t.mu.Lock()
		t.refused, t.refusal = o.Mark, errors.Join(err, unsettled)
		t.mu.Unlock()
	}
	return err
}
