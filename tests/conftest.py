"""Fixtures for all tests: real Orthanc servers on free loopback ports, each with a folder of its own."""

from __future__ import annotations
