"""``python -m platform_site.supervisor``: what ``manage.py up`` does, a second sooner, since Django is not loaded."""

from __future__ import annotations

import sys

from platform_site.supervisor.command import main

sys.exit(main())
