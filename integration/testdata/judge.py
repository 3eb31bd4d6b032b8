"""Asks a responder about certificates, with the library cryptography."""
import sys
import urllib.request

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp


def load(name):
    with open(name, "rb") as file:
        return x509.load_pem_x509_certificate(file.read())


def verify(key, signature, data, algorithm):
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, data, ec.ECDSA(algorithm))
    else:
        key.verify(signature, data, padding.PKCS1v15(), algorithm)


url, issuer = sys.argv[1], load(sys.argv[2])
for name in sys.argv[3:]:
    for algorithm in hashes.SHA1(), hashes.SHA256(), hashes.SHA512():
        asked = load(name)
        request = ocsp.OCSPRequestBuilder().add_certificate(asked, issuer, algorithm).build()
        post = urllib.request.Request(
            url, data=request.public_bytes(Encoding.DER), headers={"Content-Type": "application/ocsp-request"})
        with urllib.request.urlopen(post, timeout=10) as answer:
            response = ocsp.load_der_ocsp_response(answer.read())
        assert response.response_status == ocsp.OCSPResponseStatus.SUCCESSFUL, response.response_status
        (delegate,) = response.certificates
        verify(issuer.public_key(), delegate.signature, delegate.tbs_certificate_bytes, delegate.signature_hash_algorithm)
        verify(delegate.public_key(), response.signature, response.tbs_response_bytes, response.signature_hash_algorithm)
        assert response.serial_number == asked.serial_number and response.issuer_key_hash == request.issuer_key_hash
        assert response.responder_name is None and response.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(
            delegate.public_key()).digest
        assert response.this_update <= response.produced_at < response.next_update
        print(name, algorithm.name, response.certificate_status.name.lower(), response.revocation_reason)
