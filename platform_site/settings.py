"""Django's settings. Every value that differs between deployments comes from the environment (see README)."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import structlog
from django.core.exceptions import ImproperlyConfigured

from audit.valkey import once_more
from marketdata.engine.detectors.kinds import DEFAULT_KINDS, kinds_from_text
from marketdata.engine.detectors.parameters import parameters_from_text
from platform_site import environment
from trading import crash_points

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"
CHAOS_MARK = "chaos-lane"
DATA_DIR = Path(environment.text("BALLAST_DATA_DIR", str(BASE_DIR / "var")))

DEBUG = environment.boolean("BALLAST_DEBUG", False)
SECRET_KEY = environment.secret("BALLAST_SECRET_KEY")
if not SECRET_KEY:
    if not environment.boolean("BALLAST_INSECURE_KEYS", True):
        raise ImproperlyConfigured("BALLAST_SECRET_KEY is not set.")
    SECRET_KEY = "insecure-key-for-commands-that-serve-nothing"  # noqa: S105 - `manage.py up` always sets a real one
# Fernet key(s) that encrypt exchange keys at rest; several, comma-separated, allow rotation (first encrypts).
MASTER_KEY = environment.secret("BALLAST_MASTER_KEY")
ALLOWED_HOSTS = environment.text("BALLAST_ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]").split(",")
CSRF_TRUSTED_ORIGINS = [origin for origin in environment.text("BALLAST_TRUSTED_ORIGINS").split(",") if origin]
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = environment.boolean("BALLAST_HTTPS", False)
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"

INSTALLED_APPS = [
    # Its development server; all other commands would load Twisted for nothing.
    *(["daphne"] if "runserver" in sys.argv else []),
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "channels",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "django_prometheus",
    "django_fsm",
    "django_htmx",
    "audit",
    "marketdata",
    "strategies",
    "mlops",
    "risk",
    "trading",
    "platform_site",
]

MIDDLEWARE = [
    "platform_site.request_ids.request_ids",
    "platform_site.api_errors.refuse_nul",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

ROOT_URLCONF = "platform_site.urls"
ASGI_APPLICATION = "platform_site.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {"default": environment.database("DATABASE_URL", "postgres://ballast@127.0.0.1:54329/ballast")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = environment.text("REDIS_URL") or "redis://127.0.0.1:63799/0"
REDIS_PREFIX = environment.text("BALLAST_REDIS_PREFIX", "ballast")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": REDIS_PREFIX,
        "OPTIONS": {"socket_timeout": 2, "socket_connect_timeout": 2, "retry": once_more()},
    }
}
CHANNEL_LAYERS = {
    "default": {
        # Publish/subscribe: a frame or a doorbell that nobody hears is worth nothing later, and every receiver of
        # doorbells also re-reads on a timer.
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": f"{REDIS_PREFIX}:channels"},
    }
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "dashboard"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Served from the source folders: no collectstatic step between a change and its effect.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework.authentication.TokenAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["platform_site.parsers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_THROTTLE_CLASSES": [
        "platform_site.throttles.AnonymousThrottle",
        "platform_site.throttles.UserThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {
        "anon": environment.text("BALLAST_ANONYMOUS_RATE", "60/min"),
        "user": environment.text("BALLAST_USER_RATE", "600/min"),
    },
    "EXCEPTION_HANDLER": "platform_site.api_errors.exception_handler",
    "COERCE_DECIMAL_TO_STRING": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Ballast API",
    "DESCRIPTION": "Instruments, market data, orders, positions and strategies of a Ballast deployment.",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "ENUM_NAME_OVERRIDES": {
        "SideEnum": "trading.models.order.Side",
        "RunStateEnum": "trading.models.backtest.BacktestRun.State",
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

CELERY_BROKER_URL = REDIS_URL
CELERY_RESULT_BACKEND = None
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 60, "global_keyprefix": f"{REDIS_PREFIX}:celery:"}
CELERY_TASK_TIME_LIMIT = 300
# What may take hours has workers of its own: a kill switch must not wait behind it.
CELERY_TASK_ROUTES = {
    "trading.tasks.carry_out_backtest": {"queue": "research"},
    "trading.tasks.carry_out_search": {"queue": "research"},
}
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
# Entries are created in django-celery-beat's tables at the start of beat and can be edited in the admin from then on.
CELERY_BEAT_SCHEDULE = {
    "worker heartbeat": {"task": "audit.tasks.worker_heartbeat", "schedule": timedelta(seconds=5)},
    "reconcile accounts": {"task": "trading.tasks.reconcile_accounts", "schedule": timedelta(seconds=10)},
    "carry out kill switches": {"task": "trading.tasks.carry_out_kill_switches", "schedule": timedelta(seconds=2)},
    "watch engines": {"task": "trading.tasks.watch_engines", "schedule": timedelta(seconds=5)},
    "leave accounts for an emergency": {"task": "trading.tasks.leave_accounts", "schedule": timedelta(minutes=1)},
    "prune feed events": {"task": "marketdata.tasks.prune_feed_events", "schedule": timedelta(hours=6)},
    "drain dead letters": {"task": "audit.tasks.drain_dead_letters", "schedule": timedelta(seconds=30)},
    "prune idempotency keys": {"task": "trading.tasks.prune_idempotency_keys", "schedule": timedelta(hours=1)},
    "take up searches": {"task": "trading.tasks.take_up_searches", "schedule": timedelta(seconds=10)},
    "take up backtests": {"task": "trading.tasks.take_up_backtests", "schedule": timedelta(seconds=10)},
    "prune detections": {"task": "marketdata.tasks.prune_detections", "schedule": timedelta(hours=1)},
    "make depth days": {"task": "marketdata.tasks.make_depth_days", "schedule": timedelta(hours=1)},
    "refresh depth aggregates": {"task": "marketdata.tasks.refresh_depth_aggregates", "schedule": timedelta(minutes=5)},
    "refresh recent depth": {"task": "marketdata.tasks.refresh_recent_depth", "schedule": timedelta(hours=1)},
    "pack depth days": {"task": "marketdata.tasks.pack_depth_days", "schedule": timedelta(hours=6)},
    "pack depth heat": {"task": "marketdata.tasks.pack_depth_heat", "schedule": timedelta(minutes=15)},
    "verify audit chains": {"task": "audit.tasks.verify_chains", "schedule": timedelta(hours=1)},
    "note audit heads": {"task": "audit.tasks.note_heads", "schedule": timedelta(hours=1)},
}

# Set in the data folders of `manage.py chaos` alone.
CHAOS = (DATA_DIR / CHAOS_MARK).exists()
EXCHANGE = environment.choice("EXCHANGE", "simulator", ("simulator", "bybit-testnet", "bybit"))
if crash_at := environment.text(crash_points.VARIABLE):
    if EXCHANGE != "simulator" or not (DEBUG or CHAOS):
        raise ImproperlyConfigured(
            f"{crash_points.VARIABLE} is set: it ends processes in the middle of orders; only `manage.py chaos` and "
            "deployments with BALLAST_DEBUG=true that trade against the simulator may have it. Unset it."
        )
    try:
        crash_points.check(crash_at)
    except crash_points.CrashPointError as error:
        raise ImproperlyConfigured(f"{crash_points.VARIABLE}: {error}.") from error
# The symbols that engines follow; empty: all that the venue lists (right for the simulator, far too many at Bybit).
SYMBOLS = frozenset(
    symbol
    for symbol in environment.text(
        "SYMBOLS", "" if EXCHANGE == "simulator" else "BTCUSDT,ETHUSDT,SOLUSDT,XRPUSDT,DOGEUSDT"
    ).split(",")
    if symbol
)
# An engine that has not renewed for this long has lost its symbols to the others; it renews several times in between.
LEASE_SECONDS = environment.integer("BALLAST_LEASE_SECONDS", 6, minimum=3, maximum=60)
LEASE_RENEWAL_SECONDS = environment.integer("BALLAST_LEASE_RENEWAL_SECONDS", 2, minimum=1, maximum=20)
if 2 * LEASE_RENEWAL_SECONDS > LEASE_SECONDS:
    raise ImproperlyConfigured(
        f"BALLAST_LEASE_RENEWAL_SECONDS is {LEASE_RENEWAL_SECONDS}; expected at most half of BALLAST_LEASE_SECONDS "
        f"({LEASE_SECONDS})."
    )
# After so long without an owner an account's dead-man policy takes effect.
DEAD_MAN_SECONDS = environment.integer("BALLAST_DEAD_MAN_SECONDS", 60, minimum=15, maximum=3_600)
SIMULATOR_URL = environment.text("SIMULATOR_URL", "http://127.0.0.1:8900")
# The paper venue, where the orders of accounts on paper go (see README).
PAPER_URL = environment.text("PAPER_URL", "http://127.0.0.1:8901")
SYMBOLS_A_CONNECTION = environment.integer("SYMBOLS_A_CONNECTION", 10, minimum=1, maximum=100)
# Symbols whose books are followed at Binance too, to compare with. Bybit's testnet has prices of its own.
BINANCE_SYMBOLS = tuple(
    symbol
    for symbol in environment.text(
        "BINANCE_SYMBOLS", "" if EXCHANGE == "bybit-testnet" else "BTCUSDT,ETHUSDT,SOLUSDT"
    ).split(",")
    if symbol
)
BINANCE_MARKET = environment.choice("BINANCE_MARKET", "usdm", ("usdm", "spot"))
# Requests a minute of one user to the endpoints of depth analytics.
DEPTH_API_RATE = environment.integer("DEPTH_API_RATE", 1_200, minimum=1, maximum=1_000_000)
# The pause between two requests for depth at one of Binance's markets; its weights are kept in any case.
DEPTH_REQUEST_SPACING_MS = environment.integer("DEPTH_REQUEST_SPACING_MS", 300, minimum=0, maximum=10_000)
# What books are watched for, thresholds that differ from their defaults, and how long the events are kept.
try:
    DETECTORS = kinds_from_text(environment.text("DETECTORS", DEFAULT_KINDS))
except ValueError as error:
    raise ImproperlyConfigured(f"DETECTORS: {error}.") from error
try:
    DETECTOR_PARAMETERS = parameters_from_text(environment.text("DETECTOR_PARAMETERS"))
except ValueError as error:
    raise ImproperlyConfigured(f"DETECTOR_PARAMETERS: {error}.") from error
DETECTIONS_DAYS = environment.integer("DETECTIONS_DAYS", 7, minimum=1, maximum=3_650)
# Files of past bars that the API takes (a year of minutes is 525,600 rows); larger ones are for `candles_import`.
ARCHIVE_UPLOAD_MEGABYTES = environment.integer("ARCHIVE_UPLOAD_MEGABYTES", 64, minimum=1, maximum=4_096)
ARCHIVE_UPLOAD_ROWS = environment.integer("ARCHIVE_UPLOAD_ROWS", 600_000, minimum=1, maximum=6_000_000)
# Users' own strategies, one Python file each (docs/strategies.md). Whoever may write here runs code in every process.
STRATEGIES_DIR = environment.folder("STRATEGIES_DIR", DATA_DIR / "strategies")
# Raw frames go to files of this folder; empty: they are not recorded.
RECORD_DIR = environment.text("RECORD_DIR")
# Where backtests find recordings of books and trades.
RECORDINGS_DIR = environment.folder("RECORDINGS_DIR", Path(RECORD_DIR) if RECORD_DIR else DATA_DIR / "recordings")
# Larger ones are for `manage.py backtest`: a recording takes about ten times as much memory as it is long.
BACKTEST_RECORDING_MEGABYTES = environment.integer("BACKTEST_RECORDING_MEGABYTES", 64, minimum=1, maximum=65_536)
RECORD_FILE_MEGABYTES = environment.integer("RECORD_FILE_MEGABYTES", 256, minimum=1, maximum=65_536)
RECORD_FILE_MINUTES = environment.integer("RECORD_FILE_MINUTES", 60, minimum=1, maximum=1_440)

# Where workers keep heads of the audit trail, to compare with; best on a disk that the database's administrator does
# not reach.
AUDIT_HEADS_FILE = Path(environment.text("AUDIT_HEADS_FILE", str(DATA_DIR / "audit-heads.txt")))

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "()": "structlog.stdlib.ProcessorFormatter",
            "processor": structlog.processors.JSONRenderer(),
            "foreign_pre_chain": [
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
            ],
        },
        "line": {"format": "%(asctime)s %(levelname)s %(name)s: %(trace)s%(message)s"},
    },
    "filters": {"trace": {"()": "audit.trace.TraceFilter"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": environment.choice("BALLAST_LOG_FORMAT", "line", ("line", "json")),
            "filters": ["trace"],
        }
    },
    "root": {"handlers": ["console"], "level": environment.text("BALLAST_LOG_LEVEL", "INFO")},
    "loggers": {"daphne.http_protocol": {"level": "WARNING"}, "django.channels.server": {"level": "WARNING"}},
}
