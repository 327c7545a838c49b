"""Liquibase as this tool uses it: in one child process, under a connection that we hold.

`install` and `java` fetch what it needs, `changelog` looks at a changelog before Liquibase does, `ledger` reads and
puts back its table, `session` is the parent's side of the child; `worker` and the modules it imports run in the child.
"""
