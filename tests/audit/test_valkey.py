"""A Valkey that is away costs whoever asks it two tries, and no pause between them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import redis

from audit.valkey import connect


class Dropping:
    """Takes connections on loopback and closes each at once; ``taken`` says how many."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._socket.getsockname()[1]}/0"
        self.taken = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.taken += 1
            connection.close()

    def end(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def dropping() -> Iterator[Dropping]:
    server = Dropping()
    yield server
    server.end()


def test_a_call_is_tried_once_more_and_then_given_up(dropping: Dropping) -> None:
    client = connect(dropping.url)
    with pytest.raises(redis.ConnectionError):
        client.ping()
    assert dropping.taken == 2
