package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1" // RFC 6960 section 4.2.1: KeyHash
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ocspfleet/signer/wire"
)

// lab is a CA and a responder that answers as ours would, in circumstances that
// ours would refuse to answer in: what clients make of a site that lies.
type lab struct {
	caCert               *x509.Certificate
	caKey, responderKey  *ecdsa.PrivateKey
	root, ca, rootAndCRL string // PEM files
	nss, nginxLog        string
	trials               []*trial
	said                 map[string]map[*trial]string // by the client's name
	javaOnce             sync.Once
	javaSaid             string
}

// trial is one circumstance under one profile, with a certificate whose AIA
// leads to a responder in it.
type trial struct {
	circumstance
	profile string
	url     string // of the responder
	leaf    string // PEM file
	tls     string // the socket where nginx serves the certificate
}

const revokedResponder, soundResponder = 0x666, 0x777

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{said: map[string]map[*trial]string{}}
	dir := t.TempDir()
	rootKey := l.newKey(t)
	l.caKey, l.responderKey = l.newKey(t), l.newKey(t)
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab root"}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	root := l.sign(t, authority, authority, rootKey, rootKey)
	authority.SerialNumber, authority.Subject.CommonName = big.NewInt(2), "lab CA"
	l.caCert = l.sign(t, authority, root, l.caKey, rootKey)
	l.root, l.ca = l.pem(t, dir, "root.pem", root.Raw), l.pem(t, dir, "ca.pem", l.caCert.Raw)
	crl, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(7 * 24 * time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(revokedResponder), RevocationTime: now.Add(-time.Hour)}},
	}, l.caCert, l.caKey)
	if err != nil {
		t.Fatal(err)
	}
	// openssl takes CRLs from the file of trusted certificates.
	l.rootAndCRL = put(t, filepath.Join(dir, "root-crl.pem"), contents(t, l.root)+string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: crl})))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/crl" {
			_, _ = w.Write(crl)
			return
		}
		l.respond(w, r)
	}))
	l.issue(t, dir, "http://"+server.Listener.Addr().String())
	server.Start()
	t.Cleanup(server.Close)
	l.nss = "sql:" + t.TempDir()
	certutil := tool(t, "certutil", "libnss3-tools")
	said(t, certutil, "-N", "-d", l.nss, "--empty-password")
	said(t, certutil, "-A", "-d", l.nss, "-n", "root", "-t", "CT,C,C", "-a", "-i", l.root)
	said(t, certutil, "-A", "-d", l.nss, "-n", "ca", "-t", ",,", "-a", "-i", l.ca)
	l.askAll(t)
	return l
}

func (l *lab) newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (l *lab) sign(t *testing.T, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func (l *lab) pem(t *testing.T, dir, name string, der []byte) string {
	t.Helper()
	return put(t, filepath.Join(dir, name), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// issue makes the trials, and starts an nginx that serves the certificate of each.
func (l *lab) issue(t *testing.T, dir, responder string) {
	t.Helper()
	key := l.newKey(t)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := put(t, filepath.Join(dir, "leaf.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	trust := put(t, filepath.Join(dir, "trust.pem"), contents(t, l.root, l.ca))
	var servers strings.Builder
	var listen []string
	sockets := socketDir(t)
	now := time.Now()
	for _, profile := range []string{"revocable", "br"} {
		for _, c := range circumstances {
			n := len(l.trials)
			at := &trial{circumstance: c, profile: profile, url: responder + "/" + strconv.Itoa(n), tls: filepath.Join(sockets, strconv.Itoa(n))}
			leaf := l.sign(t, &x509.Certificate{
				SerialNumber: big.NewInt(int64(1000 + n)), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
				NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(0, 6, 0), KeyUsage: x509.KeyUsageDigitalSignature,
				ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, OCSPServer: []string{at.url},
			}, l.caCert, key, l.caKey)
			at.leaf = l.pem(t, dir, fmt.Sprintf("leaf-%d.pem", n), leaf.Raw)
			put(t, at.leaf, contents(t, at.leaf, l.ca)) // the others read the first certificate of a file
			fmt.Fprintf(&servers, "server { listen unix:%s ssl; ssl_certificate %s; ssl_certificate_key %s; ssl_trusted_certificate %s; }\n", at.tls, at.leaf, keyFile, trust)
			listen = append(listen, at.tls)
			l.trials = append(l.trials, at)
		}
	}
	config := put(t, filepath.Join(dir, "nginx.conf"), nginxConfig(dir, "ssl_stapling on;\nssl_stapling_verify on;\n"+servers.String()))
	serve(t, listen, tool(t, "nginx", "nginx"), "-p", dir, "-c", config)
	l.nginxLog = filepath.Join(dir, "error.log")
}

// socketDir is a folder for Unix sockets, whose names must be short (108 octets).
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "lab") // t.TempDir may be long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// respond answers good to anything, as the trial in the path has it.
func (l *lab) respond(w http.ResponseWriter, r *http.Request) {
	number, encoded, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || n >= len(l.trials) {
		http.NotFound(w, r)
		return
	}
	der, err := io.ReadAll(r.Body)
	if r.Method == http.MethodGet {
		if encoded, err = url.PathUnescape(encoded); err == nil {
			der, err = base64.StdEncoding.DecodeString(strings.TrimLeft(encoded, "/"))
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body, err := l.answer(l.trials[n], der)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	_, _ = w.Write(body)
}

// answer has the times that our policy's defaults give: thisUpdate 5 minutes
// back, nextUpdate after 72 h.
func (l *lab) answer(c *trial, request []byte) ([]byte, error) {
	asked, err := wire.ParseRequest(request)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Add(-c.ahead).Truncate(time.Second)
	delegate, err := l.delegate(c, now)
	if err != nil {
		return nil, err
	}
	algorithm, _, err := wire.SignatureAlgorithm(l.responderKey.Public())
	if err != nil {
		return nil, err
	}
	point, err := l.responderKey.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	data := wire.ResponseData{ResponderKeyHash: sha1.Sum(point), ProducedAt: now}
	for _, id := range asked.CertIDs {
		data.Responses = append(data.Responses, wire.SingleResponse{
			CertID: id.Raw, Status: wire.StatusGood, ThisUpdate: now.Add(-5 * time.Minute), NextUpdate: now.Add(72*time.Hour - 5*time.Minute),
		})
	}
	tbs := data.Marshal()
	digest := sha256.Sum256(tbs)
	signature, err := ecdsa.SignASN1(rand.Reader, l.responderKey, digest[:])
	if err != nil {
		return nil, err
	}
	return wire.MarshalBasic(tbs, algorithm, signature, delegate), nil
}

// delegate is the responder's certificate at this moment: revocable has a CRL
// distribution point, br says that nobody shall look (RFC 6960 section 4.2.2.2.1).
func (l *lab) delegate(c *trial, now time.Time) ([]byte, error) {
	from, to := c.life(now)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(soundResponder), Subject: pkix.Name{CommonName: "site-a"}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
	}
	if c.revoked {
		template.SerialNumber = big.NewInt(revokedResponder)
	}
	switch {
	case c.profile == "br":
		template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}}
	case c.lost:
		template.CRLDistributionPoints = []string{"http://127.0.0.1:1/crl"} // nobody listens on port 1
	default:
		template.CRLDistributionPoints = []string{c.url[:strings.LastIndex(c.url, "/")] + "/crl"}
	}
	return x509.CreateCertificate(rand.Reader, template, l.caCert, l.responderKey.Public(), l.caKey)
}
