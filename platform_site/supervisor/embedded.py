"""The embedded servers of one data folder: where they live, with which passwords, and that they are ready."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from platform_site.supervisor import postgres, valkey
from platform_site.supervisor.child import ChildSpec
from platform_site.supervisor.data_folder import DataFolder
from platform_site.supervisor.leftovers import MARK
from platform_site.supervisor.privileges import Identity, can, postgres_identity
from platform_site.supervisor.refusals import StartRefused

PLACE = "postgres-place.json"
DATABASE = "ballast"


def find_home(folder: DataFolder, identity: Identity | None) -> Path:
    """Where the cluster of this data folder is. Once chosen the place is kept: permissions may change, data may not."""
    kept = folder.read_json(PLACE)
    if kept is None:
        local = folder.path / "postgres"
        return local if (local / "data").exists() else postgres.choose_home(folder.path, identity)
    home = Path(kept.get("home", ""))
    if not (home / "data").is_dir():
        raise StartRefused(
            f"The database of {folder.path} was in {home} and is not there any more: "
            f"restore it, or move {folder.path} away to start with an empty one."
        )
    return home


def has_database(folder: DataFolder) -> bool:
    """Whether a cluster was ever made for this folder."""
    return (folder.path / PLACE).exists() or (folder.path / "postgres" / "data").exists()


def make_postgres(folder: DataFolder, port: int, password: str) -> postgres.EmbeddedPostgres:
    """The server with its cluster checked, or made. The cluster is remembered once it is complete."""
    identity = postgres_identity()
    home = find_home(folder, identity)
    server = postgres.EmbeddedPostgres(postgres.find_programs(identity), home, port, password, identity)
    if server.prepare():
        folder.write_json(PLACE, {"home": str(home)})
    if identity is not None and not can(identity, "-x", home.parent):
        raise StartRefused(
            f"PostgreSQL runs as {identity.name} under root, who cannot enter {home.parent} any more: "
            "let everybody pass through it and the folders above it again (chmod o+x), or start as an ordinary user."
        )
    return server


def make_valkey(folder: DataFolder, port: int, password: str) -> valkey.EmbeddedValkey:
    server = valkey.EmbeddedValkey(valkey.find_program(), folder.path / "valkey", port, password)
    server.prepare()
    return server


def marked(spec: ChildSpec, mark: str) -> ChildSpec:
    return replace(spec, environment={**spec.environment, MARK: mark})
