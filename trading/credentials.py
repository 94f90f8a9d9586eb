"""Exchange keys at rest: encrypted with Fernet under the master key(s), which live outside the database."""

from __future__ import annotations

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class CredentialsError(Exception):
    """Keys cannot be encrypted or decrypted; the message says what to set."""


def encrypt(text: str) -> bytes:
    return _cipher().encrypt(text.encode())


def decrypt(token: bytes | memoryview) -> str:
    try:
        return _cipher().decrypt(bytes(token)).decode()
    except InvalidToken:
        raise CredentialsError(
            "the stored exchange keys do not open with BALLAST_MASTER_KEY; restore the key they were stored under, "
            "or enter the exchange keys again"
        ) from None


def _cipher() -> MultiFernet:
    keys = [key.strip() for key in settings.MASTER_KEY.split(",") if key.strip()]
    if not keys:
        raise CredentialsError("BALLAST_MASTER_KEY is not set; it encrypts the exchange keys")
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:
        raise CredentialsError("BALLAST_MASTER_KEY is not a Fernet key (32 bytes, url-safe base64)") from None
