package devfleet

import (
	"crypto/rand"
	"fmt"
	neturl "net/url"
	"os"
	"path/filepath"
	"time"

	"ocspfleet/integration/testkit/softhsm"
	"ocspfleet/ops/config"

	"go.yaml.in/yaml/v3"
)

const database = "ocspfleet"

// heartbeat of the fleet's master. Production wants 5s; here a newcomer who
// kills the master sees the copies age at once.
const heartbeat = time.Second

// login is one user of one database, with its password in a file beside the
// configuration that uses it.
type login struct {
	user, group  string
	port         int
	passwordFile string // absolute
	password     string
}

// dsn has no password: a configuration names the file.
func (l login) dsn() string {
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", l.user, address(l.port), database)
}

// fullDSN is what fleet.json tells.
func (l login) fullDSN() string {
	u := neturl.URL{Scheme: "postgres", User: neturl.UserPassword(l.user, l.password), Host: address(l.port), Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// newLogin chooses a password and writes its file. file is its name without
// ".password".
func (o *Options) newLogin(owner, file, user, group string, port int) (login, error) {
	l := login{user: user, group: group, port: port, password: rand.Text(), passwordFile: filepath.Join(o.etc(owner), file+".password")}
	if err := os.WriteFile(l.passwordFile, []byte(l.password+"\n"), 0o600); err != nil {
		return l, fmt.Errorf("writing a password: %w", err)
	}
	return l, nil
}

func (l login) database() config.Database {
	return config.Database{DSN: l.dsn(), PasswordFile: l.passwordFile}
}

func tokenOf(t *softhsm.SoftToken) config.Token {
	return config.Token{URI: "pkcs11:token=" + t.Label, Module: t.Module, PINFile: t.PINFile, SoftHSM2Conf: t.Conf}
}

// stateOf is where a PIN that the token refused is remembered; in production
// /var/lib/ocspd.
func stateOf(t *softhsm.SoftToken) string { return filepath.Join(t.Dir, "state") }

// configs are what each CA agrees to sign, whatever the master wants.
func (a *authority) configs() map[string]config.CA {
	cas := map[string]config.CA{}
	for _, i := range a.issuers {
		cas[i.name] = config.CA{
			Certificate: i.file("ca.pem"), Key: i.file("ca.key"), State: i.file("state"),
			Profile: policy.Profile, MaxLife: 168 * time.Hour, CRLURL: i.crlURL(),
		}
	}
	return cas
}

// writeConfig writes OWNER/etc/FILE.yaml, as it would lie in /etc/ocspfleet, below a
// comment.
func (o *Options) writeConfig(owner, file, about string, value any) (path string, err error) {
	path = filepath.Join(o.etc(owner), file+".yaml")
	return path, writeYAML(path, about, value)
}

func writeYAML(path, about string, value any) error {
	text, err := yaml.Marshal(value)
	if err == nil {
		err = os.WriteFile(path, append([]byte("# "+about+"\n"), text...), 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
