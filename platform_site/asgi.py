"""What Daphne serves: pages and the API over HTTP, live data over one websocket."""

from __future__ import annotations

import gc
import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "platform_site.settings")
# Before anything that imports models.
django.setup(set_prefix=False)

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.urls import get_resolver, path  # noqa: E402

from platform_site.http_handler import WholeRequestHandler  # noqa: E402
from trading.consumers.browser import BrowserConsumer  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": WholeRequestHandler(),
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(URLRouter([path("ws/v1/stream/", BrowserConsumer.as_asgi())]))
        ),
    }
)

# What is loaded now stays for as long as the process lives: looked through each time, as Python's collector does, it
# stopped every request for 130 ms every other second.
_ = get_resolver().url_patterns
gc.collect()
gc.freeze()
