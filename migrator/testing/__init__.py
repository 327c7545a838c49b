"""Fakes and fixtures for tests of migrator, and of what is built on it."""
