package hsm

import (
	"errors"
	"fmt"
	"sync"

	"github.com/miekg/pkcs11"
)

// instance counts the users of the module's own list of functions. Most libraries have one list
// per process, and it is initialised while a connection is up. p11-kit (its proxy, and its
// client of a remote token) makes a new list each time it is loaded: then crypto11's
// initialisation and login do not apply to ours.
type instance struct {
	mu    sync.Mutex
	users int
	apart bool // initialised here, so it must be finalised here
}

// initialise makes the module's list of functions usable until release is called. apart says
// that no connection shares it: slots may have other numbers, and no user is logged in.
func (m *module) initialise() (release func(), apart bool, err error) {
	i := &m.instance
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.users == 0 {
		err := m.ctx.Initialize()
		if i.apart = err == nil; !i.apart && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)) {
			return nil, false, fmt.Errorf("initialising the PKCS#11 library: %w", err)
		}
	}
	i.users++
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.users--; i.users == 0 && i.apart {
			_ = m.ctx.Finalize()
		}
	}, i.apart, nil
}

// inSession calls do with a session that is logged in, for operations that crypto11 lacks. The
// session may write, as crypto11's may: CloudHSM has no other sessions. It is called inside a
// connection, which keeps the library initialised.
func (t *Token) inSession(do func(p *pkcs11.Ctx, session pkcs11.SessionHandle) error) (err error) {
	release, apart, err := t.module.initialise()
	if err != nil {
		return err
	}
	defer release()
	t.mu.Lock()
	slot := t.slot
	t.mu.Unlock()
	if apart {
		at, err := t.module.find(t.conf.Parsed, t.info.Serial)
		if err != nil {
			return err
		}
		slot = at.slot
	}
	p := t.module.ctx
	session, err := p.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return fmt.Errorf("opening a session: %w", err)
	}
	defer func() { _ = p.CloseSession(session) }()
	if apart {
		if err := t.loginAgain(p, session); err != nil {
			return err
		}
	}
	return do(p, session)
}
