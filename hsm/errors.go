package hsm

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"ocspfleet/hsm/tokenconf"
)

// Errors that a caller can branch on. Every error of this package wraps at most one of them.
var (
	// ErrNoKey says that the token does not hold the private key of the public key asked for.
	ErrNoKey = errors.New("the token does not hold this key")
	// ErrBusy says that the queue holds as many signatures as fit into the deadline.
	ErrBusy = errors.New("too many signatures are waiting for the token")
	// ErrTimeout says that the signature was not made within Config.SignTimeout.
	ErrTimeout = errors.New("the token did not answer in time")
	// ErrUnavailable says that the token is lost; Run looks for it in the background.
	ErrUnavailable = errors.New("the token is unavailable")
	// ErrBadSignature says that the token made a wrong signature. It was not returned.
	ErrBadSignature = errors.New("the token made a wrong signature")
	// ErrClosed says that the Token was closed.
	ErrClosed = errors.New("the token is closed")
	// ErrDuplicate says that the token already holds a key of this label.
	ErrDuplicate = errors.New("the token already holds a key of this label")
	// ErrKind says that the token does not make keys of the kind asked for.
	ErrKind = errors.New("the token makes no keys of this kind")

	errReplaced    = errors.New("the session was closed under the call")
	errReload      = errors.New("the library is loaded anew for another token")
	errVanished    = errors.New("a key that was in the token is not seen any more")
	errUnsupported = errors.New("not supported: want P-256, P-384 or RSA with PKCS#1 v1.5, over a hash")
)

// class is how to handle an error of the library.
type class int

const (
	classRetry   class = iota // try again on the same sessions, then as classRebuild
	classRebuild              // the sessions or the library state are lost: close all, open again
	classFatal                // a retry cannot help: configuration or programming
)

// classes has the return values of PKCS#11 v2.40 section 5.1 whose class is known from SoftHSM,
// CloudHSM, nCipher and Thales modules. All others (vendor codes, texts of crypto11) are
// classRetry.
var classes = map[pkcs11.Error]class{
	pkcs11.CKR_SESSION_HANDLE_INVALID:   classRebuild, // every session after an HSM restart
	pkcs11.CKR_SESSION_CLOSED:           classRebuild,
	pkcs11.CKR_TOKEN_NOT_PRESENT:        classRebuild,
	pkcs11.CKR_TOKEN_NOT_RECOGNIZED:     classRebuild,
	pkcs11.CKR_DEVICE_REMOVED:           classRebuild,
	pkcs11.CKR_SLOT_ID_INVALID:          classRebuild,
	pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED: classRebuild,
	pkcs11.CKR_USER_NOT_LOGGED_IN:       classRebuild,
	pkcs11.CKR_KEY_HANDLE_INVALID:       classRebuild,
	pkcs11.CKR_OBJECT_HANDLE_INVALID:    classRebuild, // SoftHSM: key deleted, or its directory moved away

	// Seen for temporary faults and for a lost device: retried first.
	pkcs11.CKR_DEVICE_ERROR:    classRetry,
	pkcs11.CKR_GENERAL_ERROR:   classRetry,
	pkcs11.CKR_FUNCTION_FAILED: classRetry,

	pkcs11.CKR_PIN_INCORRECT:                  classFatal,
	pkcs11.CKR_PIN_INVALID:                    classFatal,
	pkcs11.CKR_PIN_LEN_RANGE:                  classFatal,
	pkcs11.CKR_PIN_EXPIRED:                    classFatal,
	pkcs11.CKR_PIN_LOCKED:                     classFatal,
	pkcs11.CKR_USER_PIN_NOT_INITIALIZED:       classFatal,
	pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED:     classFatal,
	pkcs11.CKR_KEY_TYPE_INCONSISTENT:          classFatal,
	pkcs11.CKR_KEY_SIZE_RANGE:                 classFatal,
	pkcs11.CKR_MECHANISM_INVALID:              classFatal,
	pkcs11.CKR_MECHANISM_PARAM_INVALID:        classFatal,
	pkcs11.CKR_DATA_LEN_RANGE:                 classFatal,
	pkcs11.CKR_ARGUMENTS_BAD:                  classFatal,
	pkcs11.CKR_TEMPLATE_INCONSISTENT:          classFatal,
	pkcs11.CKR_ATTRIBUTE_VALUE_INVALID:        classFatal,
	pkcs11.CKR_TOKEN_WRITE_PROTECTED:          classFatal,
	pkcs11.CKR_FUNCTION_NOT_SUPPORTED:         classFatal,
	pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN: classFatal,
}

// classify returns the class of an error of the library.
func classify(err error) class {
	if errors.Is(err, ErrBadSignature) || errors.Is(err, errVanished) {
		return classRebuild // a device that computes wrongly is opened again and must pass a self-test
	}
	if errors.Is(err, ErrNoKey) || errors.Is(err, ErrDuplicate) || errors.Is(err, errUnsupported) || errors.Is(err, tokenconf.ErrFull) || errors.Is(err, errEachTime) {
		return classFatal
	}
	var code pkcs11.Error
	if errors.As(err, &code) {
		return classes[code] // classRetry when not named
	}
	return classRetry
}

// pinRefused says whether a login failed because of the PIN, with the fix.
func pinRefused(err error) (fix string, refused bool) {
	var code pkcs11.Error
	if !errors.As(err, &code) {
		return "", false
	}
	switch code {
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE:
		return "put the right PIN into the file; it is not offered again before the file changes", true
	case pkcs11.CKR_PIN_LOCKED:
		return "the PIN is locked after too many wrong ones: reset it with the security officer's PIN, then touch the file", true
	case pkcs11.CKR_PIN_EXPIRED:
		return "the PIN has expired: set a new one at the token and put it into the file", true
	case pkcs11.CKR_USER_PIN_NOT_INITIALIZED:
		return "the token has no user PIN yet: initialise it, then touch the file", true
	}
	return "", false
}

// kindRefused says whether a key was not made because of its kind.
func kindRefused(err error) bool {
	var code pkcs11.Error
	if !errors.As(err, &code) {
		return false
	}
	switch code {
	case pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_CURVE_NOT_SUPPORTED, pkcs11.CKR_DOMAIN_PARAMS_INVALID, pkcs11.CKR_KEY_SIZE_RANGE:
		return true
	}
	return false
}

// errorClass is the label of ocspd_sign_errors_total, one of a fixed set.
func errorClass(err error) string {
	for _, known := range signErrorClasses {
		if known.err != nil && errors.Is(err, known.err) {
			return known.label
		}
	}
	return "token"
}

var signErrorClasses = []struct {
	err   error
	label string
}{
	{ErrBusy, "busy"},
	{ErrTimeout, "timeout"},
	{ErrUnavailable, "unavailable"},
	{ErrNoKey, "no_key"},
	{ErrBadSignature, "bad_signature"},
	{ErrClosed, "closed"},
	{errUnsupported, "unsupported"},
	{nil, "token"}, // any other answer of the library
}

// unavailable returns ErrUnavailable with the reason; errors.Is still finds the reason's own
// error (a wrong PIN, for example).
func unavailable(reason error) error {
	if reason == nil {
		return ErrUnavailable
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, reason)
}
