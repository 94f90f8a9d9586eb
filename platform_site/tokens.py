from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.authentication import BaseAuthentication, SessionAuthentication, TokenAuthentication
from rest_framework.authtoken.serializers import AuthTokenSerializer
from rest_framework.permissions import AllowAny, BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import AnonRateThrottle
from rest_framework.views import APIView

from platform_site.services import token_issue, token_revoke


class LoginThrottle(AnonRateThrottle):
    """Guessing passwords is slow business."""

    scope = "login"
    rate = "10/min"


class TokenSerializer(serializers.Serializer):
    token = serializers.CharField()


class TokenView(APIView):
    throttle_classes = (LoginThrottle,)

    def get_authenticators(self) -> list[BaseAuthentication]:
        # Who asks for a token has none yet; one that is no good any more must not keep them from it.
        asked = self.request.method if self.request else None
        return [SessionAuthentication(), TokenAuthentication()] if asked == "DELETE" else []

    def get_permissions(self) -> list[BasePermission]:
        return [IsAuthenticated()] if self.request.method == "DELETE" else [AllowAny()]

    @extend_schema(request=AuthTokenSerializer, responses=TokenSerializer)
    def post(self, request: Request) -> Response:
        """A token for bots: send it as ``Authorization: Token ...``."""
        serializer = AuthTokenSerializer(data=request.data, context={"request": request})
        serializer.is_valid(raise_exception=True)
        user = serializer.validated_data["user"]
        return Response({"token": token_issue(user=user, actor=user.get_username()).key})

    @extend_schema(request=None, responses={204: None})
    def delete(self, request: Request) -> Response:
        """Revoke your token: from now on nobody is let in with it."""
        token_revoke(user=request.user, actor=request.user.get_username())
        return Response(status=status.HTTP_204_NO_CONTENT)
