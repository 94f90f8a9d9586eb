"""The page of the archive: what there is, what is missing in it, and a form that brings more. It needs no scripts."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpRequest, HttpResponse
from django.views.generic import TemplateView

from marketdata.api.candles.serializers import UploadSerializer
from marketdata.api.candles.upload import MEGABYTE
from marketdata.candles import selectors, services
from marketdata.candles.findings import REPAIR_HELP, ImportRefused, time_text
from marketdata.candles.series import INTERVALS
from marketdata.candles.series_key import FUNDING, PriceOf

LINES_A_PAGE = 50
GAPS_SHOWN, IMPORTS_SHOWN = 5, 20


class ArchivePage(LoginRequiredMixin, TemplateView):
    """Past bars are for everybody who is logged in; who may import them sees the form and the imports."""

    template_name = "candles/archive.html"

    @property
    def may_import(self) -> bool:
        user = self.request.user
        return bool(user.is_staff or user.has_perm("marketdata.import_candles"))

    def post(self, request: HttpRequest) -> HttpResponse:
        if not self.may_import:
            return self._answer(403, problem="Bringing past bars needs staff, or the permission to import candles.")
        if int(request.META.get("CONTENT_LENGTH") or 0) > (settings.ARCHIVE_UPLOAD_MEGABYTES + 1) * MEGABYTE:
            most = settings.ARCHIVE_UPLOAD_MEGABYTES
            return self._answer(413, problem=f"The file is larger than {most} MB: use manage.py candles_import.")
        fields = {**request.POST.dict(), "repairs": request.POST.getlist("repairs"), **request.FILES.dict()}
        upload = UploadSerializer(data=fields)
        if not upload.is_valid():
            rules = (f"{name}: {rule}" for name, found in upload.errors.items() for rule in found)
            return self._answer(400, problem=" ".join(map(str, rules)))
        file = upload.validated_data["file"]
        try:
            report = services.file_import(
                file.file,
                key=upload.key,
                form=upload.form,
                options=upload.options,
                actor=request.user.get_username(),
                source=file.name,
                most_rows=settings.ARCHIVE_UPLOAD_ROWS,
            )
        except ImportRefused as refusal:
            return self._answer(400, told=list(refusal.report.lines()), refused=True)
        return self._answer(200, told=list(report.lines()))

    def _answer(self, status: int, **context: Any) -> HttpResponse:
        return self.render_to_response(self.get_context_data(**context), status=status)

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        symbol = self.request.GET.get("symbol", "").strip().upper()[:32]
        page = self.request.GET.get("page", "1")
        number = int(page) if page.isascii() and page.isdigit() and 0 < int(page[:6]) <= 100_000 else 1
        lines = selectors.archive_lines(**({"symbol": symbol} if symbol else {}))
        some = list(lines[(number - 1) * LINES_A_PAGE : number * LINES_A_PAGE + 1])
        return super().get_context_data(
            symbol=symbol,
            page=number,
            next_page=number + 1 if len(some) > LINES_A_PAGE else None,
            lines=[
                {
                    "found": found,
                    "first": time_text(found.first_ms),
                    "last": time_text(found.last_ms),
                    "gaps": found.gaps[:GAPS_SHOWN],
                    "more_gaps": max(0, len(found.gaps) - GAPS_SHOWN),
                }
                for found in selectors.coverages(some[:LINES_A_PAGE])
            ],
            may_import=self.may_import,
            imports=selectors.imports()[:IMPORTS_SHOWN] if self.may_import else [],
            intervals=[*INTERVALS, FUNDING],
            markets=[each.value for each in PriceOf],
            repairs=[(name.value, f"--{name.value.replace('_', '-')}", text) for name, text in REPAIR_HELP.items()],
            **context,
        )
