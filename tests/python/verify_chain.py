"""Verifies a server's certificate with Python's `cryptography`: verify_chain.py ROOT CHAIN LEAF NAME."""

import datetime
import sys

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.verification import PolicyBuilder, Store


def read(path):
    with open(path, "rb") as file:
        return x509.load_pem_x509_certificates(file.read())


def main(root_path, chain_path, leaf_path, name):
    roots, chain, (leaf,) = read(root_path), read(chain_path), read(leaf_path)
    intermediates = [certificate for certificate in chain if certificate not in roots]
    path = [leaf, *chain]
    for child, issuer in zip(path, path[1:]):
        child.verify_directly_issued_by(issuer)
    # The library's own rules are those of the public web, which know no Ed25519.
    if not any(isinstance(certificate.public_key(), ed25519.Ed25519PublicKey) for certificate in path):
        policy = PolicyBuilder().store(Store(roots)).time(datetime.datetime.now(datetime.timezone.utc))
        verified = policy.build_server_verifier(x509.DNSName(name)).verify(leaf, intermediates)
        assert verified == path, f"{len(verified)} certificates instead of {len(path)}"
    print("verified")


main(*sys.argv[1:])
