package devfleet

import (
	"crypto/rand"
	"fmt"
	neturl "net/url"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"ocspfleet/integration/testkit/softhsm"
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

// configs are the configuration files as they would lie in /etc/ocspfleet. %q of
// a path or URL is a YAML string, too.
var configs = template.Must(template.New("").Funcs(template.FuncMap{
	"quote": func(text string) string { return fmt.Sprintf("%q", text) },
}).Parse(`
{{- define "database" -}}
database: {dsn: {{quote .DSN}}, password_file: {{quote .PasswordFile}}}
{{- end -}}

{{- define "token" -}}
token: {uri: {{quote .URI}}, module: {{quote .Module}}, pin_file: {{quote .PINFile}}, softhsm2_conf: {{quote .Conf}}}
# Where a PIN that the token refused is remembered; in production /var/lib/ocspd.
state_dir: {{quote .StateDir}}
{{- end -}}

{{- define "peer" -}}
feed:
  root: {{quote .Root}}
{{- with .TLSKey}}
  tls_key_file: {{quote .}}
{{- end}}
{{- end -}}

{{- define "issuers" -}}
issuers:
{{- range .}}
  {{.Name}}:
    certificate: {{quote .Certificate}}
    key: {{quote .Key}}
    # What the CA agrees to sign, whatever the master wants, and what it remembers.
    profile: {{.Profile}}
    max_life: 168h
    crl_url: {{quote .CRLURL}}
    state: {{quote .State}}
{{- end}}
{{- end -}}

{{- define "ca" -}}
# The CA's own configuration, for ocspctl ca-sign: at a machine without a network. In
# production the keys lie in a token.
{{template "issuers" .}}
{{end -}}

{{- define "master/ocspctl" -}}
# The staff's tool at the master: login in group ocsp_operator.
role: master
{{template "database" .Login}}
# The CA's keys, to sign the sites' responder certificates. In production they lie in a
# token. The same as in ca/ca.yaml: here CA and master are one desk.
{{template "issuers" .Issuers}}

{{template "peer" .Feed}}
{{end -}}

{{- define "master/admin" -}}
# ocspctl db at the master: the superuser, to migrate and to make logins.
role: master
{{template "database" .Login}}
{{end -}}

{{- define "master/ocspsyncd" -}}
role: master
{{template "database" .Login}}
# Production wants 5s; here the copies' age is to be seen at once.
heartbeat: {{.Heartbeat}}
admin: {{quote .Admin}}
# The root's key is offline, at the CA; it names the keys that sign.
{{template "peer" .Feed}}
{{- if .Feed.Listen}}
  key_file: {{quote .Feed.Key}}
  # What was signed last, outside the database.
  state: {{quote .Feed.State}}
{{- with .Feed.Answer}}
  # Answers sites that ask for what was just issued.
  answer_key_file: {{quote .}}
{{- end}}
  listen: {{quote .Feed.Listen}}
  # Production wants 60s.
  confirm: {{.Confirm}}
{{- end}}
{{end -}}

{{- define "master/approver" -}}
# The second person's: approves what another operator asked for.
role: master
{{template "database" .Login}}
{{template "peer" .Feed}}
{{end -}}

{{- define "site/admin" -}}
# ocspctl db at this site: the superuser, to migrate and to make logins.
role: site
{{template "database" .Login}}
{{end -}}

{{- define "site/ocspctl" -}}
# ocspctl at this site: its token and a look at its database.
role: site
{{template "database" .Login}}
{{template "token" .Token}}
{{template "peer" .Feed}}
{{end -}}

{{- define "site/ocspsyncd" -}}
role: site
site: {{.Site}}
sync: {{.Sync}}
{{template "database" .Login}}
{{- if eq .Sync "logical"}}
# The master, by a login in group ocsp_replica.
master: {dsn: {{quote .Master.DSN}}, password_file: {{quote .Master.PasswordFile}}}
{{- end}}
# Production wants 1m; here a damaged copy is to be seen to heal.
recount: 5s
admin: {{quote .Admin}}
{{template "peer" .Feed}}
{{- if .Feed.Listen}}
  # The signed feed: whom to ask, in this order, and who may ask here.
  sources:
{{- range .Feed.Sources}}
    - {url: {{quote .URL}}, pin: {{quote .Pin}}{{if .Master}}, master: true{{end}}}
{{- end}}
  listen: {{quote .Feed.Listen}}
{{- with .Feed.Ask}}
  # Where ocspd asks for what was just issued.
  ask_socket: {{quote .}}
{{- end}}
{{- if .Feed.Peers}}
  peers:
{{- range .Feed.Peers}}
    - {name: {{.Name}}, pin: {{quote .Pin}}}
{{- end}}
{{- end}}
{{- if eq .Sync "feed"}}
  # Production: three times the master's confirm.
  stale_after: 20s
{{- end}}
{{- end}}
{{end -}}

{{- define "site/ocspd" -}}
listen: {{quote .Listen}}
admin: {{quote .Admin}}
{{template "database" .Login}}
{{template "token" .Token}}
# Only these issuers are answered for, whatever the database says.
issuers:
{{- range .Issuers}}
  - {certificate: {{quote .Certificate}}}
{{- end}}
{{- with .Feed}}
# What takes a revocation back, and how fresh a feed's copy is, only signatures under this key say.
feed: {root: {{quote .Root}}, state: {{quote .State}}{{with .Ask}}, ask_socket: {{quote .}}{{end}}}
{{- end}}
# A proxy on this machine that names its clients: HAProxy from 127.0.0.2 by the PROXY
# protocol, nginx by a header (deploy/).
trusted_proxies:
  - {address: 127.0.0.2, proxy_protocol: true}
  - {address: 127.0.0.1, header: X-Real-IP}
# Production: the load balancer's check interval times its failure count, plus one.
drain_delay: 1s
log_level: info
{{end -}}
`))

type (
	loginView  struct{ DSN, PasswordFile string }
	tokenView  struct{ URI, Module, PINFile, Conf, StateDir string }
	issuerView struct{ Name, Certificate, Key, Profile, CRLURL, State string }
)

// view is what the templates may say.
type view struct {
	Site, Listen, Admin string
	Sync                string
	Heartbeat, Confirm  time.Duration
	Feed                *feedView
	Login, Master       loginView
	Token               tokenView
	Issuers             []issuerView
}

func (l login) view() loginView { return loginView{l.dsn(), l.passwordFile} }

func viewToken(t *softhsm.SoftToken) tokenView {
	return tokenView{"pkcs11:token=" + t.Label, t.Module, t.PINFile, t.Conf, filepath.Join(t.Dir, "state")}
}

func (a *authority) view() []issuerView {
	var views []issuerView
	for _, i := range a.issuers {
		views = append(views, issuerView{i.name, i.file("ca.pem"), i.file("ca.key"), policy.Profile, i.crlURL(), i.file("state")})
	}
	return views
}

// writeConfig writes OWNER/etc/FILE.yaml from the template ROLE/FILE.
func (o *Options) writeConfig(owner, file string, v view) (path string, err error) {
	role := "site"
	if owner == "master" {
		role = "master"
	}
	var text strings.Builder
	if err := configs.ExecuteTemplate(&text, role+"/"+file, v); err != nil {
		return "", fmt.Errorf("writing the configuration of %s: %w", file, err)
	}
	path = filepath.Join(o.etc(owner), file+".yaml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return "", fmt.Errorf("writing the configuration of %s: %w", file, err)
	}
	return path, nil
}
