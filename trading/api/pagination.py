from __future__ import annotations

from rest_framework.pagination import PageNumberPagination


class Pages(PageNumberPagination):
    """``?page=`` and ``?limit=`` (at most 200)."""

    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200
