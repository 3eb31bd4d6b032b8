package hsm

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"go.uber.org/goleak"

	"ocspfleet/hsm/tokenconf"
	"ocspfleet/integration/testkit/faultpkcs11"
	"ocspfleet/integration/testkit/softhsm"
)

const testPIN = "only-a-test-1"

func TestMain(m *testing.M) {
	if what := os.Getenv("HSM_TEST_CHILD"); what != "" {
		if err := child(what, os.Getenv("HSM_TEST_ARGUMENT")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// long skips a test with -short and says why.
func long(t *testing.T, why string) {
	t.Helper()
	if testing.Short() {
		t.Skip(why)
	}
}

// newSoft makes a fresh SoftHSM token.
func newSoft(t *testing.T) *softhsm.SoftToken {
	t.Helper()
	soft, err := softhsm.New(t.TempDir(), "site-a", testPIN)
	if err != nil {
		t.Fatal(err)
	}
	return soft
}

// configOf has the patience that a loaded machine asks for; hurried takes it back.
func configOf(soft *softhsm.SoftToken) Config {
	return Config{Config: tokenconf.Config{URI: soft.URI(), SoftHSM2Conf: soft.Conf, SignTimeout: 30 * time.Second}}
}

// hurried shortens the deadline of a signature, once the keys are made. Run must
// not read it at that moment: there is no self-test (noSelfTest) and no loss yet.
func hurried(token *Token, deadline time.Duration) { token.conf.SignTimeout = deadline }

// openSoft opens a token, with Run in the background if supervised, and closes it with the test.
func openSoft(t *testing.T, cfg Config, supervised bool, change ...func(*timings)) *Token {
	t.Helper()
	token, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	token.times = timings{
		firstDelay: 10 * time.Millisecond, maxDelay: 50 * time.Millisecond, calm: time.Hour, reload: 100 * time.Millisecond,
		selfTest: 100 * time.Millisecond, generate: time.Minute,
	}
	for _, f := range change {
		f(&token.times)
	}
	var running sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	if supervised {
		running.Go(func() {
			if err := token.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		stop()
		running.Wait()
		if err := token.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return token
}

// noSelfTest leaves it to the signatures to find a loss.
func noSelfTest(times *timings) { times.selfTest = time.Hour }

func makeKey(t *testing.T, token *Token, kind KeyKind, label string) crypto.Signer {
	t.Helper()
	key, err := token.GenerateKey(kind, label)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signOnce signs and verifies with the public key.
func signOnce(key crypto.Signer) error {
	digest := sha256.Sum256([]byte("tbsResponseData"))
	signature, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	return verify(key.Public(), digest[:], crypto.SHA256, signature)
}

// eventually polls until check returns nil, for at most a minute.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute: %v", what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// replaceKey puts another crypto.Signer in the place of a key in the connection in
// use: a token that hangs, errs or computes wrongly.
func replaceKey(t *testing.T, token *Token, key crypto.Signer, with func(real crypto.Signer) crypto.Signer) {
	t.Helper()
	name, _, err := nameOf(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	l, _, _ := token.state()
	if l == nil {
		t.Fatal("no connection")
	}
	l.set(name, with(l.signer(name)))
}

// fake is a crypto.Signer whose Sign is a function.
type fake struct {
	crypto.Signer
	sign func(digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

func (f fake) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return f.sign(digest, opts)
}

// childOf is another process of this test: what it is to do, with an argument.
func childOf(t *testing.T, what, argument string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(append(os.Environ(), "GORACE=atexit_sleep_ms=0", "HSM_TEST_CHILD="+what, "HSM_TEST_ARGUMENT="+argument), env...)
	return cmd
}

// apart runs a child in a user namespace, as the user id there.
func apart(t *testing.T, child *exec.Cmd, id int, flags uintptr, packages string) {
	t.Helper()
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | flags,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: id, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: id, HostID: os.Getgid(), Size: 1}},
	}
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v (it wants user namespaces, and apt install %s)\n%s", err, packages, out)
	}
}

// elsewhere runs what in another process that has the same token.
func elsewhere(t *testing.T, soft *softhsm.SoftToken, what, argument string) {
	t.Helper()
	cmd := childOf(t, what, argument, "HSM_TEST_MODULE="+soft.Module, "SOFTHSM2_CONF="+soft.Conf)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s in another process: %v: %s", what, err, out)
	}
}

// child is the other process: it logs in and changes the token.
func child(what, argument string) error {
	if what == "opencryptoki" {
		return opencryptokiChild(argument)
	}
	if what == "nss" {
		return nssChild(argument)
	}
	if what == "full" || what == "read-only" || what == "denied" {
		return diskChild(what, argument)
	}
	p := pkcs11.New(os.Getenv("HSM_TEST_MODULE"))
	if p == nil {
		return errors.New("loading the library")
	}
	if err := p.Initialize(); err != nil {
		return err
	}
	slots, err := p.GetSlotList(true)
	if err != nil {
		return err
	}
	session, err := p.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	if err := p.Login(session, pkcs11.CKU_USER, testPIN); err != nil {
		return err
	}
	switch what {
	case "delete":
		id, err := hex.DecodeString(argument)
		if err != nil {
			return err
		}
		halves, err := objects(p, session, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
		if err != nil {
			return err
		}
		if len(halves) != 2 {
			return fmt.Errorf("%d objects of id %s", len(halves), argument)
		}
		for _, half := range halves {
			if err := p.DestroyObject(session, half); err != nil {
				return err
			}
		}
		return nil
	case "set-pin":
		return p.SetPIN(session, testPIN, argument)
	}
	return fmt.Errorf("unknown %q", what)
}

func hexID(t *testing.T, key crypto.Signer) string {
	t.Helper()
	_, id, err := nameOf(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(id)
}

func spkiHash(t *testing.T, pub crypto.PublicKey) [32]byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(der)
}

// set has the library make these faults from now on.
func set(t *testing.T, s *faultpkcs11.Library, f faultpkcs11.Faults) {
	t.Helper()
	if err := s.Set(f); err != nil {
		t.Fatal(err)
	}
}
