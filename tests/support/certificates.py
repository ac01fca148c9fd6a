"""Keys and certificates as C2PA wants them: one that signs, and the root that it comes from (C2PA 2.2, 14.5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.now(UTC)
PEM = serialization.Encoding.PEM


def key_of(kind: str = "P-256") -> Any:
    """A new private key."""
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "RSA":
        return rsa.generate_private_key(65537, 2048)
    curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1(), "secp256k1": ec.SECP256K1()}
    return ec.generate_private_key(curves[kind])


def write_key(path: Path, key: Any, passphrase: bytes = b"") -> Path:
    """The key as a PEM file."""
    locked = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, locked))
    return path


def write_chain(path: Path, key: Any, days: tuple[int, int] = (-1, 30)) -> Path:
    """A certificate for the key, valid from one of these days on to the other, and its root."""
    root_key = key_of()
    root = _certificate("Test root", root_key.public_key(), root_key, days, root_key)
    leaf = _certificate("A. Painter", key.public_key(), root_key, days)
    path.write_bytes(leaf.public_bytes(PEM) + root.public_bytes(PEM))
    return path


def _certificate(subject: str, public: Any, signer: Any, days: tuple[int, int], own: Any = None) -> x509.Certificate:
    is_root = own is not None
    built = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name("Test root"))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=days[0]))
        .not_valid_after(NOW + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(is_root, None), critical=True)
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, is_root, is_root, False, False),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if not is_root:
        built = built.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return built.sign(signer, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, common), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Studio")]
    )
