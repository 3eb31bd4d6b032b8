package issuance

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/ops/certprofile"
)

// Request is a site's certificate request with a checked proof of possession.
type Request struct {
	Site      string
	PublicKey any
	KeyHash   [32]byte // SHA-256 of the SubjectPublicKeyInfo DER: what staff compare out of band

	proof [32]byte  // SHA-256 of the request; zero: last proved the key
	last  db.Serial // of the site's certificate that proved its key; nil: a request did
}

// Kind returns the kind of the key: "p256", "rsa2048".
func (r *Request) Kind() string { return keyKind(r.PublicKey) }

func keyKind(public any) string {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		return fmt.Sprintf("p%d", key.Curve.Params().BitSize)
	case *rsa.PublicKey:
		return fmt.Sprintf("rsa%d", key.N.BitLen())
	}
	return "unknown"
}

// ParseRequest reads a PKCS#10 request (RFC 2986), PEM or DER, for the site. Its signature proves
// that the requester has the key; the commonName must be the site, so that a request cannot be
// used for another. The CA decides the content of the certificate; a request for another kind of
// certificate is refused, since it must be a mistake.
func ParseRequest(raw []byte, site string) (*Request, error) {
	if err := db.CheckSite(site); err != nil {
		return nil, err
	}
	if len(subjectCN(site)) > certprofile.MaxName {
		return nil, fmt.Errorf("site %q: its name must be at most %d characters to fit into a certificate", site, certprofile.MaxName-len(subjectCN("")))
	}
	if block, _ := pem.Decode(raw); block != nil {
		if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
			return nil, fmt.Errorf("reading the certificate request of %q: want CERTIFICATE REQUEST, got PEM type %q", site, block.Type)
		}
		raw = block.Bytes
	}
	csr, err := x509.ParseCertificateRequest(raw)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate request of %q: %w", site, err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("checking the proof of possession of %q: %w", site, err)
	}
	if csr.Subject.CommonName != site {
		return nil, fmt.Errorf("the certificate request is for %q, not for site %q", csr.Subject.CommonName, site)
	}
	if err := checkWish(csr); err != nil {
		return nil, fmt.Errorf("the certificate request of %q %w", site, err)
	}
	if err := certprofile.CheckKey(csr.PublicKey); err != nil {
		return nil, fmt.Errorf("checking the key of %q: %w", site, err)
	}
	return &Request{Site: site, PublicKey: csr.PublicKey, KeyHash: sha256.Sum256(csr.RawSubjectPublicKeyInfo), proof: sha256.Sum256(csr.Raw)}, nil
}

var (
	oidKeyPurposes = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidBasic       = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidOCSPSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9}
)

// checkWish refuses a request that asks for another extended key usage than OCSPSigning, or for a
// CA's certificate. It may ask for nothing.
func checkWish(csr *x509.CertificateRequest) error {
	for _, e := range csr.Extensions {
		switch {
		case e.Id.Equal(oidKeyPurposes):
			var purposes []asn1.ObjectIdentifier
			rest, err := asn1.Unmarshal(e.Value, &purposes)
			if err != nil || len(rest) > 0 || len(purposes) != 1 || !purposes[0].Equal(oidOCSPSigning) {
				return errors.New("asks for another extended key usage than OCSPSigning alone")
			}
		case e.Id.Equal(oidBasic):
			var basic struct {
				IsCA bool `asn1:"optional"`
				Path int  `asn1:"optional,default:-1"`
			}
			if rest, err := asn1.Unmarshal(e.Value, &basic); err != nil || len(rest) > 0 || basic.IsCA {
				return errors.New("asks for the certificate of a CA")
			}
		}
	}
	return nil
}
