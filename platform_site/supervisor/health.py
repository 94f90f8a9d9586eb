"""Asks the running site whether every component is well: GET /api/v1/health."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

PATH = "/api/v1/health"
ASK_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Health:
    """``problems`` maps each component that is not ok to what it says; ``answered`` is whether the site answered."""

    answered: bool
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_ok(self) -> bool:
        return self.answered and not self.problems

    def text(self) -> str:
        if not self.answered:
            return "web does not answer"
        return "; ".join(f"{name}: {what}" for name, what in self.problems.items()) or "ok"


def answers(port: int, path: str) -> bool:
    """Whether GET ``path`` on loopback gives 200."""
    return _get(port, path)[0] == http.HTTPStatus.OK


def ask_health(port: int) -> Health:
    status, body = _get(port, PATH)
    try:
        components = json.loads(body)["components"]
        problems = {
            name: f"{component['status']} {component.get('detail') or ''}".strip()
            for name, component in components.items()
            if component["status"] != "ok"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return Health(answered=False)
    return Health(answered=status != 0, problems=problems)


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
