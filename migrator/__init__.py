"""Takes a PostgreSQL database safely through a Liquibase changelog, or brings it back."""

__version__ = "0.1.0"
