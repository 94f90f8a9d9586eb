"""Files that are sent: no larger than is allowed, and malformed ones refused as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from rest_framework import status
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import MultiPartParser

MEGABYTE = 2**20


class TooLarge(APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"

    def __init__(self) -> None:
        most = settings.ARCHIVE_UPLOAD_MEGABYTES
        super().__init__(f"it is larger than {most} MB; send it in parts, or import it with manage.py candles_import")


class UploadParser(MultiPartParser):
    """Multipart forms. What is too long is refused before it is read."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        told = (parser_context or {})["request"].META.get("CONTENT_LENGTH") or "0"
        # Some room for the form around the file.
        if not told.isdecimal() or int(told) > (settings.ARCHIVE_UPLOAD_MEGABYTES + 1) * MEGABYTE:
            raise TooLarge
        try:
            return super().parse(stream, media_type, parser_context)
        except SuspiciousOperation as error:
            raise ParseError(f"multipart form parse error - {error}") from None
