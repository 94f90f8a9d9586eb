"""The secrets of a deployment: made once, kept beside its data. Without them its stored exchange keys are lost."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.fernet import Fernet

from platform_site.supervisor.data_folder import DataFolder
from platform_site.supervisor.refusals import StartRefused

FILE = "secrets.json"
MAKERS: dict[str, Callable[[], str]] = {
    "BALLAST_SECRET_KEY": lambda: secrets.token_urlsafe(50),
    "BALLAST_MASTER_KEY": lambda: Fernet.generate_key().decode(),
    "postgres_password": lambda: secrets.token_urlsafe(24),
    "valkey_password": lambda: secrets.token_urlsafe(24),
}


@dataclass(frozen=True, slots=True)
class Keys:
    """Passwords of the embedded servers, and what the application reads from its environment."""

    secret_key: str
    master_key: str
    postgres_password: str
    valkey_password: str


def load_keys(folder: DataFolder, *, has_data: bool) -> Keys:
    """Reads the secrets, making the missing ones of a new folder.

    Raises StartRefused when there is data but no secrets: new ones would open neither the database nor the stored keys.
    """
    kept = folder.read_json(FILE)
    if kept is None:
        if has_data:
            raise StartRefused(
                f"{folder.path / FILE} is missing although there is a database: restore the file from a backup, "
                "or move the data folder away to start with an empty one."
            )
        kept = {}
    missing = {name: make() for name, make in MAKERS.items() if not kept.get(name)}
    if missing and has_data:
        raise StartRefused(f"{folder.path / FILE} lacks {', '.join(missing)}: restore the file from a backup.")
    if missing:
        kept = {**kept, **missing}
        folder.write_json(FILE, kept)
    return Keys(
        secret_key=kept["BALLAST_SECRET_KEY"],
        master_key=kept["BALLAST_MASTER_KEY"],
        postgres_password=kept["postgres_password"],
        valkey_password=kept["valkey_password"],
    )
