// Package hsm owns the PKCS#11 token of the process and offers its keys as
// crypto.Signer.
//
// It trusts the PKCS#11 library, which runs inside the process, and the file that holds the
// PIN. It does not trust the token to be present, quick or correct: every signature has a
// deadline and is verified before it leaves, and after a lost session, a reloaded token or a
// token that was away the connection recovers without a restart. A wrong PIN is offered once
// per state of its file, across restarts (tokenconf), since real tokens lock. No PIN is offered
// unless exactly one token matches the URI.
//
// It promises: a private key never leaves the token. The PIN is in no error, log or command
// line. A signer stays valid across rebuilds. A signature that cannot be made is refused at
// once (ErrBusy, ErrUnavailable, ErrNoKey). A call that hangs inside the library costs one
// session and one goroutine, never more.
//
// Several tokens may be open in one process, of one library or of several (Tokens); each once.
// PKCS#11 initialises and finalises per process (PKCS#11 v2.40 section 5.4), so this package
// coordinates the tokens of one library, and no other code in the process may use that library.
// A library call that never returns cannot be ended from here: Tokens.Watch reports it, and the
// process is restarted. SoftHSM can lose its keys on a full disk, so no login is made and no
// key is generated then (package tokenconf).
//
// Read token.go and login.go (open, close), sign.go and limiter.go (one call), supervise.go and
// watchdog.go (loss), connection.go, module.go and instance.go (the library), errors.go (what
// an error means), key.go, odd.go and delete.go (the keys), tokens.go (several).
package hsm
