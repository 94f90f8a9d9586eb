"""Starts and watches the platform's processes on one machine: embedded servers, then the application. For Linux."""

from __future__ import annotations
