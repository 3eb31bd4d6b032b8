// Package hsm owns the PKCS#11 token of the process and hands out its keys as
// crypto.Signer.
//
// It trusts the PKCS#11 library, which runs inside the process, and the file
// that holds the PIN. It does not trust the token to be there, to be quick or
// to compute rightly: every signature has a deadline, every signature is
// verified before it leaves, and a lost session, a reloaded token or a token
// that was away heals without a restart. A wrong PIN is offered once per state of its
// file, across restarts (tokenconf), since real tokens lock; and none to a token that is
// not the only one that the URI means.
//
// It promises: a private key never leaves the token; the PIN is in no error,
// log or command line; a signer stays valid across rebuilds; a signature is
// refused at once (ErrBusy, ErrUnavailable, ErrNoKey) rather than late; a call
// that hangs inside the library costs one session and one goroutine, never more.
//
// Several tokens may be open in one process, of one library or of several (Tokens);
// each once. PKCS#11 initialises and finalises per process (PKCS#11 v2.40 section
// 5.4), so tokens of one library know of one another here, and nobody else in the
// process may use it. A library that never returns is beyond us: Tokens.Watch says
// when, and the process is started again. SoftHSM can lose its keys on a full disk,
// so no login and no new key is asked of it then (package tokenconf).
//
// Read token.go and login.go (open, close), sign.go and limiter.go (one call), supervise.go
// and watchdog.go (loss), connection.go and module.go (the library), errors.go (what an
// error means), key.go, odd.go and delete.go (the keys), tokens.go (several).
package hsm
