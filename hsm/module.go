package hsm

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"ocspfleet/hsm/tokenconf"
)

// TokenInfo is the token's description of itself.
type TokenInfo struct {
	Label, Serial, Manufacturer, Model string
	Module                             string   // path of the library
	Sessions                           int      // that can sign at a time
	Open                               int      // open sessions; 0: not reported, as by SoftHSM
	MostOpen                           int      // sessions that the token allows; 0: no limit reported
	Mechanisms                         []string // needed mechanisms that the token has
}

// module is a second handle on the library, for what crypto11 lacks: token information, labels,
// and setting CKA_ID. It stays loaded for the life of the process, since many PKCS#11 libraries
// crash when unloaded (SoftHSMv2 #635), and it never initialises while a connection is up.
type module struct {
	path     string
	ctx      *pkcs11.Ctx
	instance instance

	// building is held while connections are closed and opened: by Open, by one attempt of Run
	// at a time, and by Close, for all Tokens of this library.
	building sync.Mutex
	reloaded time.Time // when a Token last closed the others' connections, too; guarded by building

	users []*Token // guarded by modulesMu
}

// PKCS#11 state is per process (C_Initialize, C_Login and C_Finalize act on all users of the
// library in it), so its record is, too.
var (
	modulesMu sync.Mutex
	modules   = map[string]*module{}
)

// own loads the library and adds a Token to its users.
func own(path string, t *Token) (*module, error) {
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
	m.users = append(m.users, t)
	return m, nil
}

func (m *module) release(t *Token) {
	modulesMu.Lock()
	defer modulesMu.Unlock()
	m.users = slices.DeleteFunc(m.users, func(user *Token) bool { return user == t })
}

// others returns the Tokens that use the library besides t.
func (m *module) others(t *Token) []*Token {
	modulesMu.Lock()
	defer modulesMu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.users), func(user *Token) bool { return user == t })
}

// reload closes the connections of all other Tokens, so that the library is finalised and sees
// the tokens' current state when t dials next. Each of the others opens its own connection
// again as soon as building is free; signatures wait for that, within their deadline. reload
// runs at most once in pause, since a token that is away must not disturb its neighbour all the
// time. building is held.
func (m *module) reload(t *Token, pause time.Duration) bool {
	others := m.others(t)
	if len(others) == 0 || (!m.reloaded.IsZero() && time.Since(m.reloaded) < pause) {
		return false
	}
	m.reloaded = time.Now()
	for _, other := range others {
		other.mu.Lock()
		c := other.current
		other.mu.Unlock()
		if c != nil {
			other.lose(c, errReload)
		}
		other.mu.Lock()
		lost := other.lost
		other.lost = nil
		other.mu.Unlock()
		if lost != nil {
			other.retire(lost)
		}
	}
	return true
}

// locate finds the token before any login, so that the PIN is offered only to the token that
// the URI means. Another reason: a SoftHSM token whose folder cannot be written gives no
// information after a login (CKR_GENERAL_ERROR), though it signs, because C_Login records in
// the token's file that the PIN was right. building is held.
func (m *module) locate(uri tokenconf.URI, had string) (at place, mechanisms []string, err error) {
	release, _, err := m.initialise() // a connection of another Token may have initialised it
	if err != nil {
		return at, nil, err
	}
	defer release()
	if at, err = m.find(uri, had); err != nil {
		return at, nil, err
	}
	mechanisms, err = m.mechanisms(at.slot)
	return at, mechanisms, err
}

// place is where a token was found.
type place struct {
	slot uint
	info pkcs11.TokenInfo
	only bool // no other token has its serial number: it can be found by that if slots are renumbered
}

// find returns the place of the one token that the URI means; the library must be initialised.
// If two match, neither is opened: offered to the other, the PIN of one would be a wrong PIN.
// had is the serial number of the token that this process had open, "" at the start: a second
// match that appeared later does not stop recovery.
func (m *module) find(uri tokenconf.URI, had string) (place, error) {
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return place{}, fmt.Errorf("listing slots: %w", err)
	}
	var found []place
	var other error
	serials := map[string]int{}
	for _, slot := range slots {
		info, err := m.ctx.GetTokenInfo(slot)
		if err != nil {
			continue // the slot of another token
		}
		serials[info.SerialNumber]++
		if uri.Serial != "" && uri.Serial != info.SerialNumber || uri.Token != "" && uri.Token != info.Label {
			continue
		}
		if err := uri.Check(info.ManufacturerID, info.Model); err != nil {
			other = err
			continue
		}
		found = append(found, place{slot: slot, info: info})
	}
	if mine := func(at place) bool { return had != "" && at.info.SerialNumber == had }; slices.ContainsFunc(found, mine) {
		found = slices.DeleteFunc(found, func(at place) bool { return !mine(at) })
	}
	switch {
	case len(found) == 0 && other != nil:
		return place{}, fmt.Errorf("listing slots: %w%s", other, m.labels())
	case len(found) == 0:
		return place{}, fmt.Errorf("listing slots: the token is in none%s", m.labels())
	case len(found) > 1:
		wishes := make([]string, len(found))
		for i, at := range found {
			wishes[i] = "serial=" + tokenconf.Escape(at.info.SerialNumber)
		}
		return place{}, fmt.Errorf("the PKCS#11 URI means %d tokens, and no PIN was offered to any: add one of %s to it", len(found), strings.Join(wishes, ", "))
	}
	found[0].only = found[0].info.SerialNumber != "" && serials[found[0].info.SerialNumber] == 1
	return found[0], nil
}

// needed are the mechanisms in use, in the order of the list.
var needed = []struct {
	name string
	code uint
}{
	{"ECDSA", pkcs11.CKM_ECDSA},
	{"RSA_PKCS", pkcs11.CKM_RSA_PKCS},
	{"EC_KEY_PAIR_GEN", pkcs11.CKM_EC_KEY_PAIR_GEN},
	{"RSA_PKCS_KEY_PAIR_GEN", pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN},
}

// mechanisms returns which of the needed mechanisms the token in a slot has.
func (m *module) mechanisms(slot uint) ([]string, error) {
	all, err := m.ctx.GetMechanismList(slot)
	if err != nil {
		return nil, fmt.Errorf("listing mechanisms: %w", err)
	}
	names := []string{}
	for _, want := range needed {
		if slices.ContainsFunc(all, func(has *pkcs11.Mechanism) bool { return has.Mechanism == want.code }) {
			names = append(names, want.name)
		}
	}
	return names, nil
}

// labels lists the present tokens, for an error text.
func (m *module) labels() string {
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
