"""Liquibase as this tool uses it: in one child process, under a connection that we hold.

`install` makes ready what it needs (`jars`, `java`, `startup`), `changelog` looks at a changelog before Liquibase does,
`ledger` reads and puts back its table. `session` is the parent's side of the child: `exchange` of lines, and `answers`.
`worker` is the child, with all that runs in it.
"""
