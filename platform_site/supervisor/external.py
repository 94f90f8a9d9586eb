"""Servers that the operator brought along: whether they take us, asked before anything is started."""

from __future__ import annotations

from urllib.parse import urlsplit

import psycopg
import redis

from platform_site.supervisor.refusals import StartRefused

ANSWER_SECONDS = 5


def require_database(url: str) -> None:
    """Raises StartRefused, without the password, when the PostgreSQL at ``url`` cannot be used."""
    try:
        with psycopg.connect(url, connect_timeout=ANSWER_SECONDS) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        raise StartRefused(
            f"The database that DATABASE_URL names ({_place(url)}) cannot be used ({_reason(error)}): start the server "
            "and create the database, correct DATABASE_URL, or unset it to use the embedded one."
        ) from None


def require_cache(url: str) -> None:
    """Raises StartRefused, without the password, when the Valkey or Redis at ``url`` cannot be used."""
    try:
        with redis.Redis.from_url(
            url, socket_connect_timeout=ANSWER_SECONDS, socket_timeout=ANSWER_SECONDS
        ) as connection:
            connection.ping()
    except (redis.RedisError, ValueError) as error:
        raise StartRefused(
            f"The Valkey or Redis that REDIS_URL names ({_place(url)}) cannot be used ({_reason(error)}): start it, "
            "correct REDIS_URL, or unset it to use the embedded one."
        ) from None


def _place(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2] + urlsplit(url).path


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rpartition("failed: ")[2].removeprefix("FATAL:").strip() if lines else type(error).__name__
