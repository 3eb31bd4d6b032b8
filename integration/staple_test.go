package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocspfleet/integration/testkit/devfleet"
)

// stapled is one TLS server with a certificate of one issuer.
type stapled struct {
	issuer, state   string // state: good or revoked
	address         string
	certificate     string // PEM, with the chain
	key, root, leaf string
	ca              string
}

// stapledAll lays out the four servers of a test: both issuers, good and revoked.
func stapledAll(t *testing.T, f *devfleet.Fleet, dir string) []stapled {
	t.Helper()
	var all []stapled
	for _, issuer := range f.Issuers {
		for state, leaf := range map[string]devfleet.LeafCertificate{"good": issuer.Leaf.Good, "revoked": issuer.Leaf.Revoked} {
			s := stapled{
				issuer: issuer.Name, state: state, address: freeAddress(t), leaf: f.Path(leaf.Certificate), key: f.Path(leaf.Key),
				root: f.Path(issuer.TrustAnchors[0]), ca: f.Path(issuer.Certificate),
			}
			s.certificate = put(t, filepath.Join(dir, issuer.Name+"-"+state+".pem"), contents(t, s.leaf, s.ca))
			all = append(all, s)
		}
	}
	return all
}

func addresses(all []stapled) []string {
	var list []string
	for _, s := range all {
		list = append(list, s.address)
	}
	return list
}

// status is what openssl s_client finds stapled: good, revoked or none.
func (s stapled) status(t *testing.T) string {
	t.Helper()
	out, _ := says(t, "sh", "-c", `openssl s_client -connect "$1" -servername localhost -status -CAfile "$2" -verify_return_error </dev/null`, "sh", s.address, s.root)
	switch {
	case strings.Contains(out, "OCSP response: no response sent"):
		return "none"
	case strings.Contains(out, "Cert Status: good"):
		return "good"
	case strings.Contains(out, "Cert Status: revoked"):
		return "revoked"
	}
	return out
}

// curl is what curl --cert-status says, which verifies the staple itself.
func (s stapled) curl(t *testing.T) string {
	t.Helper()
	_, port, _ := strings.Cut(s.address, ":")
	out, code := says(t, tool(t, "curl", "curl"), "--silent", "--show-error", "--output", os.DevNull, "--max-time", "20",
		"--ipv4", "--cacert", s.root, "--cert-status", "https://localhost:"+port+"/")
	switch {
	case code == 0:
		return "good"
	case code == 91 && strings.Contains(out, "revocation reason: keyCompromise"):
		return "revoked"
	case code == 91 && strings.Contains(out, "No OCSP response received"):
		return "none"
	}
	return out
}

// expect waits for both clients to see the status: servers ask for it lazily.
func (s stapled) expect(t *testing.T, want string) {
	t.Helper()
	var byOpenSSL, byCurl string
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(100 * time.Millisecond) {
		byOpenSSL, byCurl = s.status(t), s.curl(t)
		if byOpenSSL == want && byCurl == want {
			return
		}
	}
	t.Errorf("issuer %s, %s: openssl sees %s, curl sees %s, want %s", s.issuer, s.state, byOpenSSL, byCurl, want)
}

// nginx verifies what it staples, and staples nothing but good.
func TestNginxStaples(t *testing.T) {
	f := shared(t)
	nginx, dir := tool(t, "nginx", "nginx"), t.TempDir()
	all := stapledAll(t, f, dir)
	var servers strings.Builder
	for _, s := range all {
		trust := put(t, filepath.Join(dir, s.issuer+"-trust.pem"), contents(t, s.root, s.ca))
		fmt.Fprintf(&servers, `server { listen %s ssl; server_name localhost; ssl_certificate %s; ssl_certificate_key %s;
ssl_trusted_certificate %s; return 200 "hello"; }
`, s.address, s.certificate, s.key, trust)
	}
	config := put(t, filepath.Join(dir, "nginx.conf"), nginxConfig(dir, "ssl_stapling on;\nssl_stapling_verify on;\n"+servers.String()))
	serve(t, addresses(all), nginx, "-p", dir, "-c", config)
	for _, s := range all {
		if s.state == "good" {
			s.expect(t, "good")
			continue
		}
		s.expect(t, "none")
		complaint := `certificate status "revoked" in the OCSP response while requesting certificate status`
		for limit := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if log := contents(t, filepath.Join(dir, "error.log")); strings.Contains(log, complaint) && strings.Contains(log, s.certificate) {
				break
			} else if time.Now().After(limit) {
				t.Fatalf("nginx does not complain of the revoked certificate:\n%s", log)
			}
		}
	}
}

// nginxConfig wraps what stands inside http{} for a server in the foreground
// that keeps to a folder.
func nginxConfig(dir, http string) string {
	return fmt.Sprintf(`daemon off;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log info;
worker_processes 1;
worker_rlimit_nofile 8192;
events { worker_connections 4096; }
http {
client_body_temp_path %[1]s/body;
proxy_temp_path %[1]s/proxy;
fastcgi_temp_path %[1]s/fastcgi;
uwsgi_temp_path %[1]s/uwsgi;
scgi_temp_path %[1]s/scgi;
access_log off;
%[2]s
}
`, dir, http)
}

// Apache staples what the responder says, revoked too.
func TestApacheStaples(t *testing.T) {
	f := shared(t)
	apache, dir := tool(t, "apache2", "apache2-bin"), t.TempDir()
	all := stapledAll(t, f, dir)
	var config strings.Builder
	fmt.Fprintf(&config, `ServerRoot %[1]s
ServerName localhost
PidFile %[1]s/pid
ErrorLog %[1]s/error.log
DefaultRuntimeDir %[1]s
Mutex file:%[1]s default
User nobody
Group nogroup
SSLUseStapling on
SSLStaplingCache shmcb:%[1]s/staples(128000)
`, dir)
	for _, s := range all {
		fmt.Fprintf(&config, "Listen %[1]s\n<VirtualHost %[1]s>\nSSLEngine on\nSSLCertificateFile %[2]s\nSSLCertificateKeyFile %[3]s\n</VirtualHost>\n",
			s.address, s.certificate, s.key)
	}
	modules := ""
	for _, name := range []string{"mpm_event", "authz_core", "socache_shmcb", "ssl"} {
		modules += fmt.Sprintf("LoadModule %[1]s_module /usr/lib/apache2/modules/mod_%[1]s.so\n", name)
	}
	file := put(t, filepath.Join(dir, "apache.conf"), modules+config.String())
	serve(t, addresses(all), apache, "-X", "-f", file)
	for _, s := range all {
		s.expect(t, s.state)
	}
}

// HAProxy of Debian 12 does not ask by itself: it staples the answer that lies
// beside the certificate, and reads it strictly when it starts.
func TestHAProxyStaples(t *testing.T) {
	f := shared(t)
	haproxy, dir := tool(t, "haproxy", "haproxy"), t.TempDir()
	all := stapledAll(t, f, dir)
	config := "defaults\n mode http\n timeout connect 2s\n timeout client 5s\n timeout server 5s\n"
	for i, s := range all {
		bundle := put(t, filepath.Join(dir, fmt.Sprintf("bundle-%d.pem", i)), contents(t, s.certificate, s.key))
		said(t, "openssl", "ocsp", "-no_nonce", "-CAfile", s.root, "-issuer", s.ca, "-cert", s.leaf, "-url", f.Sites[0].URL, "-respout", bundle+".ocsp")
		config += fmt.Sprintf("frontend f%d\n bind %s ssl crt %s\n http-request return status 200 content-type text/plain string hello\n", i, s.address, bundle)
	}
	serve(t, addresses(all), haproxy, "-db", "-f", put(t, filepath.Join(dir, "haproxy.cfg"), config))
	for _, s := range all {
		s.expect(t, s.state)
	}
}
