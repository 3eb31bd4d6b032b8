package devfleet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"ocspfleet/db"
	"ocspfleet/ops/config"

	"golang.org/x/sync/errgroup"
)

// authority is the CA of the fleet: one root, offline after the first seconds,
// and the issuing CAs under it. openssl makes all of it, so that the fleet meets
// certificates and an index.txt that are not of our own making.
type authority struct {
	dir     string // absolute
	issuers []*issuing
}

// issuing is one issuing CA in a folder of its own, as openssl ca wants it.
type issuing struct {
	name    string   // "rsa"
	newKey  []string // how openssl makes a key of this kind
	dir     string   // absolute
	ocspURL string   // AIA of what it issues
	serial  wishes
}

// crlURL is the distribution point of the sites' responder certificates. Every site
// serves that path; a real fleet has one name in DNS for all of them.
func (i *issuing) crlURL() string { return i.ocspURL + "/crl/" + i.name }

func (i *issuing) file(name string) string { return filepath.Join(i.dir, name) }

// The key kinds of fleet.json's issuers, in its order, and those of the sites' keys for
// them, with what follows the site's name in a key's label.
var keyKinds = []struct {
	name             string
	newKey           []string
	responder, label string
}{
	{"rsa", []string{"-newkey", "rsa:2048"}, "rsa2048", "-rsa2048"},
	{"ecdsa", []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"}, "p256", ""},
}

// authority returns the CA that the fleet has, made or not.
func (o *Options) authority() *authority {
	a := &authority{dir: filepath.Join(o.Dir, "ca")}
	for _, kind := range keyKinds {
		a.issuers = append(a.issuers, &issuing{
			name: kind.name, newKey: kind.newKey, dir: filepath.Join(a.dir, kind.name), ocspURL: url(Ports(o.BasePort).public(0)),
		})
	}
	return a
}

// rootConfig serves the two kinds of CA certificate.
const rootConfig = `[req]
distinguished_name = dn
[dn]
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[issuing]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
`

var issuingConfig = template.Must(template.New("openssl.cnf").Parse(`# The configuration of openssl ca for issuer {{.Name}}.
[ca]
default_ca = issuing
[issuing]
dir = {{.Dir}}
database = $dir/index.txt
serial = $dir/serial
new_certs_dir = $dir/certs
certificate = $dir/ca.pem
private_key = $dir/ca.key
default_md = sha256
default_days = 365
policy = any
unique_subject = no
x509_extensions = end_entity
[any]
commonName = supplied
[end_entity]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
authorityInfoAccess = OCSP;URI:{{.URL}}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[req]
distinguished_name = dn
[dn]
`))

// make makes root, issuing CAs and all certificates, and has some revoked. certs
// is the number of certificates in all, of which openssl issues what must be real.
func (a *authority) make(ctx context.Context, certs int) error {
	if err := os.WriteFile(filepath.Join(a.dir, "root.cnf"), []byte(rootConfig), 0o600); err != nil {
		return fmt.Errorf("making the CA: %w", err)
	}
	_, err := run(ctx, nil, "openssl", "req", "-x509", "-config", filepath.Join(a.dir, "root.cnf"), "-extensions", "root",
		"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256", "-days", "3650", "-subj", "/O=ocspfleet/CN=ocspfleet root",
		"-keyout", filepath.Join(a.dir, "root.key"), "-out", filepath.Join(a.dir, "root.pem"))
	if err != nil {
		return fmt.Errorf("making the CA: %w", err)
	}
	err = writeYAML(filepath.Join(a.dir, "ca.yaml"), `The CA's own configuration, for ocspctl ca-sign: at a machine without a network. In
# production the keys lie in a token.`, config.Ocspctl{Issuers: a.configs()})
	if err != nil {
		return err
	}
	shared := newSerial(16)
	group, ctx := errgroup.WithContext(ctx)
	for n, i := range a.issuers {
		i.serial = wish(shared, n == 1) // good at the first issuer, revoked at the second
		rest := max(0, certs/len(a.issuers)-i.serial.issued())
		if n == 0 {
			rest += certs % len(a.issuers)
		}
		group.Go(func() error {
			if err := i.make(ctx, a.dir, rest); err != nil {
				return fmt.Errorf("making issuer %s: %w", i.name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

func (i *issuing) make(ctx context.Context, root string, generated int) error {
	if err := os.MkdirAll(i.file("certs"), 0o700); err != nil {
		return fmt.Errorf("making its folder: %w", err)
	}
	var config strings.Builder
	if err := issuingConfig.Execute(&config, map[string]string{"Name": i.name, "Dir": i.dir, "URL": i.ocspURL}); err != nil {
		return fmt.Errorf("writing its configuration: %w", err)
	}
	for name, text := range map[string]string{"openssl.cnf": config.String(), "index.txt": ""} {
		if err := os.WriteFile(i.file(name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("writing its configuration: %w", err)
		}
	}
	request := append([]string{
		"req", "-new", "-config", i.file("openssl.cnf"), "-nodes", "-subj", "/C=AT/O=ocspfleet/CN=ocspfleet " + i.name + " CA",
		"-keyout", i.file("ca.key"), "-out", i.file("ca.csr"),
	}, i.newKey...)
	if _, err := run(ctx, nil, "openssl", request...); err != nil {
		return err
	}
	_, err := run(ctx, nil, "openssl", "x509", "-req", "-in", i.file("ca.csr"), "-CA", filepath.Join(root, "root.pem"),
		"-CAkey", filepath.Join(root, "root.key"), "-set_serial", "0x"+newSerial(16).String(), "-days", "1825", "-sha256",
		"-extfile", filepath.Join(root, "root.cnf"), "-extensions", "issuing", "-out", i.file("ca.pem"))
	if err != nil {
		return err
	}
	if err := i.issueAll(ctx); err != nil {
		return err
	}
	return i.generate(generated)
}

// issueAll has openssl issue and revoke everything that was wished for.
func (i *issuing) issueAll(ctx context.Context) error {
	for _, name := range []string{"end-entity", "leaf-good", "leaf-revoked"} {
		_, err := run(ctx, nil, "openssl", "req", "-new", "-config", i.file("openssl.cnf"), "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
			"-nodes", "-subj", "/CN="+name, "-keyout", i.file(name+".key"), "-out", i.file(name+".csr"))
		if err != nil {
			return err
		}
	}
	for n, serial := range i.serial.good {
		if err := i.issue(ctx, serial, "end-entity", fmt.Sprintf("good-%d", n)); err != nil {
			return err
		}
	}
	for n, r := range i.serial.revoked {
		if err := i.issue(ctx, r.serial, "end-entity", fmt.Sprintf("revoked-%d", n)); err != nil {
			return err
		}
		if err := i.revoke(ctx, r); err != nil {
			return err
		}
	}
	for _, leaf := range []string{"leaf-good", "leaf-revoked"} {
		serial := newSerial(16)
		if err := i.issue(ctx, serial, leaf, "localhost"); err != nil {
			return err
		}
		if err := os.Rename(i.certificate(serial), i.file(leaf+".pem")); err != nil {
			return fmt.Errorf("keeping certificate %s: %w", leaf, err)
		}
	}
	_, err := run(ctx, nil, "openssl", "ca", "-batch", "-config", i.file("openssl.cnf"), "-revoke", i.file("leaf-revoked.pem"), "-crl_reason", "keyCompromise")
	return err
}

// issue has openssl sign a certificate of this serial.
func (i *issuing) issue(ctx context.Context, serial db.Serial, request, commonName string) error {
	if err := os.WriteFile(i.file("serial"), []byte(serial.String()+"\n"), 0o600); err != nil {
		return fmt.Errorf("choosing a serial: %w", err)
	}
	_, err := run(ctx, nil, "openssl", "ca", "-batch", "-notext", "-config", i.file("openssl.cnf"),
		"-in", i.file(request+".csr"), "-subj", "/CN="+commonName, "-out", i.certificate(serial))
	return err
}

func (i *issuing) revoke(ctx context.Context, r wishedRevocation) error {
	args := append([]string{"ca", "-batch", "-config", i.file("openssl.cnf"), "-revoke", i.certificate(r.serial)}, r.flags...)
	_, err := run(ctx, nil, "openssl", args...)
	return err
}

func (i *issuing) certificate(serial db.Serial) string {
	return i.file(filepath.Join("certs", serial.String()+".pem"))
}
