package key

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/settings"
	"ocspfleet/hsm"
)

// generate is key generate.
type generate struct {
	cli.AtOnce
	Kind   string `flag:"kind" help:"the kind of key: <p256|p384|rsa2048|rsa3072> (default: rsa2048 where the issuers that ocspd pins have RSA keys, else p256)"`
	Daemon string `flag:"ocspd-config" help:"look for the issuers in ocspd's configuration <FILE>"`
	Label  string `flag:"label,required" help:"its <LABEL> in the token, such as ocsp-SITE-DATE"`

	kind hsm.KeyKind
}

func (generate) Doc() cli.Doc {
	return cli.Doc{
		Name: "generate", Short: "make a key in the token; it never leaves it",
		Long: `The key is made inside the token, cannot be read out of it, and is found again by
its certificate: nothing needs to be configured. Its kind follows the issuers': some
clients of a CA with an RSA key verify nothing but RSA (docs/clients.md). P-256 signs
about seven times faster than RSA-2048. Next: key csr.`,
		Example: `
		ocspctl key generate --label ocsp-site-a-20261122
		ocspctl key generate --kind rsa2048 --label ocsp-site-a-20261122`,
	}
}

// Check chooses the kind.
func (v *generate) Check() (err error) {
	v.kind, err = chooseKind(v.Kind, v.Daemon)
	return err
}

func (v *generate) Run(_ context.Context, r *run) error {
	key, err := generateKey(r.token, v.kind, v.Label)
	if err != nil {
		return err
	}
	of := record(key)
	return r.ShowChange(cli.NewOutcome("key generate", true, true), cli.Quiet(cli.Object("key", of)), cli.Said(of.Tell))
}

// chooseKind returns the kind of a new key: a client that verifies an RSA CA's signatures may
// support only RSA.
func chooseKind(name, daemon string) (hsm.KeyKind, error) {
	if name != "" {
		kind, err := hsm.ParseKeyKind(name)
		if err != nil {
			return "", cli.Usagef("--kind: %v", err)
		}
		return kind, nil
	}
	place, err := settings.PeekOcspd(daemon)
	if err != nil {
		return "", cli.Usagef("--kind rsa2048 for issuers with an RSA key, --kind p256 for others: which they are is not known (%v)", err)
	}
	kinds := map[hsm.KeyKind]bool{}
	for _, issuer := range place.Issuers {
		certificate, err := ctl.ReadCertificate(issuer.Certificate)
		if err != nil {
			return "", cli.Usagef("--kind rsa2048 for issuers with an RSA key, --kind p256 for others: %s pins one without its certificate (%v)", daemon, err)
		}
		kind := hsm.P256
		if certificate.PublicKeyAlgorithm == x509.RSA {
			kind = hsm.RSA2048
		}
		kinds[kind] = true
	}
	switch {
	case len(kinds) > 1:
		return "", cli.Usagef("--kind: %s pins issuers with RSA keys and others: make a key for each, --kind rsa2048 and --kind p256, and send two requests", daemon)
	case kinds[hsm.RSA2048]:
		return hsm.RSA2048, nil
	}
	return hsm.P256, nil
}

func generateKey(token *hsm.Token, kind hsm.KeyKind, label string) (hsm.KeyInfo, error) {
	if _, err := token.GenerateKey(kind, label); errors.Is(err, hsm.ErrKind) {
		other := hsm.RSA2048
		if kind == hsm.RSA2048 || kind == hsm.RSA3072 {
			other = hsm.P256
		}
		return hsm.KeyInfo{}, fmt.Errorf("%w: choose another, such as --kind %s (it tells of %s)", err, other, strings.Join(token.Info().Mechanisms, ", "))
	} else if err != nil {
		return hsm.KeyInfo{}, err
	}
	return chooseKey(token, label) // labels are unique
}
