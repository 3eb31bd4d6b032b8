package hsm

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"
)

// TokenInfo is what the token says of itself.
type TokenInfo struct {
	Label, Serial, Manufacturer, Model string
	Module                             string // path of the library
	Sessions                           int    // that sign at a time
}

// module is a second handle on the library, for what crypto11 does not offer:
// token information, labels, and setting CKA_ID. It stays loaded for the life
// of the process, since unloading a PKCS#11 library is where many crash
// (SoftHSMv2 #635), and never initialises while a link is up.
type module struct {
	path  string
	ctx   *pkcs11.Ctx
	owned bool // a Token has it; guarded by modulesMu
}

// PKCS#11 state belongs to the process (C_Initialize, C_Login and C_Finalize
// act on all users of the library in it), so the record of it does too.
var (
	modulesMu sync.Mutex
	modules   = map[string]*module{}
)

// own loads the library and takes it for one Token.
func own(path string) (*module, error) {
	modulesMu.Lock()
	defer modulesMu.Unlock()
	m := modules[path]
	if m == nil {
		ctx := pkcs11.New(path)
		if ctx == nil {
			return nil, fmt.Errorf("loading PKCS#11 library %q: it is no loadable PKCS#11 library for this machine", path)
		}
		m = &module{path: path, ctx: ctx}
		modules[path] = m
	}
	if m.owned {
		return nil, fmt.Errorf("loading PKCS#11 library %q: a token of it is open in this process already, close that one first", path)
	}
	m.owned = true
	return m, nil
}

func (m *module) release() {
	modulesMu.Lock()
	defer modulesMu.Unlock()
	m.owned = false
}

// slot returns the token's slot while a link is up.
func (m *module) slot(uri URI) (uint, pkcs11.TokenInfo, error) {
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return 0, pkcs11.TokenInfo{}, fmt.Errorf("listing slots: %w", err)
	}
	for _, slot := range slots {
		info, err := m.ctx.GetTokenInfo(slot)
		if err != nil {
			continue // the slot of another token
		}
		if (uri.Serial == "" || uri.Serial == info.SerialNumber) && (uri.Token == "" || uri.Token == info.Label) {
			return slot, info, nil
		}
	}
	return 0, pkcs11.TokenInfo{}, errors.New("listing slots: the token is in none")
}

// labels lists the tokens that there are, for the text of an error. Only when
// no link is up: it initialises and finalises the library.
func (m *module) labels() string {
	if err := m.ctx.Initialize(); err != nil {
		return "" // the error that led here says enough
	}
	defer func() { _ = m.ctx.Finalize() }()
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return ""
	}
	var found []string
	for _, slot := range slots {
		if info, err := m.ctx.GetTokenInfo(slot); err == nil && info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 {
			found = append(found, fmt.Sprintf("%q (serial %s)", info.Label, info.SerialNumber))
		}
	}
	if len(found) == 0 {
		return "; the library knows no initialised token: initialise one, or check the library's configuration (SoftHSM: softhsm2_conf)"
	}
	return "; the library knows " + strings.Join(found, ", ")
}
