"""The child process: `__main__` reads requests, `commands` answers them; nothing here is imported by the parent.

`attached` is one database connection with Liquibase on it; `held` and `watched` stand in front of it and mind the
commits, `writing` runs what changes the database, `status`, `changes`, `rollbacks` and `undoing` only look.
"""
