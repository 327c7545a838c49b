"""Liquibase's own parse of a changelog, for one database and one set of options. Runs in the worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from migrator.liquibase.worker import status
from migrator.liquibase.worker.failures import from_java, sqlstate_of

COMPANION = ".rollback.sql"


class Parsing:
    """Parses inside the current scope, whose resource accessor knows the root."""

    def __init__(self, database: Any, options: dict[str, Any]) -> None:
        self._database = database
        self._options = options

    def parse(self, changelog: str) -> Any:
        """The changelog with the rollbacks that stand in files beside plain SQL changelogs."""
        import jpype

        accessor = jpype.JClass("liquibase.Scope").getCurrentScope().getResourceAccessor()
        try:
            parser = (
                jpype.JClass("liquibase.parser.ChangeLogParserFactory").getInstance().getParser(changelog, accessor)
            )
            parsed = parser.parse(changelog, self.parameters(), accessor)
            self._attach_rollbacks(parsed, accessor)
        except jpype.JException as error:
            raise from_java(error, kind=None if sqlstate_of(error) else "changelog") from error
        return parsed

    def parse_all(self, changelogs: Sequence[str]) -> Any:
        """The first changelog, with the changesets of the others that it does not hold itself behind its own."""
        parsed = self.parse(changelogs[0])
        known = {str(changeset.toNormalizedString()) for changeset in parsed.getChangeSets()}
        for other in changelogs[1:]:
            for changeset in list(self.parse(other).getChangeSets()):
                if str(changeset.toNormalizedString()) not in known:
                    known.add(str(changeset.toNormalizedString()))
                    parsed.addChangeSet(changeset)
        return parsed

    def _attach_rollbacks(self, parsed: Any, accessor: Any) -> None:
        import jpype

        raw_sql = jpype.JClass("liquibase.change.core.RawSQLChange")
        for changeset in list(parsed.getChangeSets()):
            path = status.physical_path(changeset)
            if str(changeset.getAuthor()) != "includeAll" or path is None or not path.lower().endswith(".sql"):
                continue
            if path.lower().endswith(COMPANION):  # includeAll takes it for a changelog
                parsed.getChangeSets().remove(changeset)
                continue
            companion = accessor.get(path[: -len(".sql")] + COMPANION)
            if companion.exists():
                change = raw_sql(
                    jpype.JClass("liquibase.util.StreamUtil").readStreamAsString(companion.openInputStream())
                )
                change.setSplitStatements(False)
                change.setStripComments(False)
                changeset.addRollbackChange(change)

    def parameters(self) -> Any:
        """The changelog parameters, contexts and labels among them."""
        import jpype

        parameters = jpype.JClass("liquibase.changelog.ChangeLogParameters")(self._database)
        contexts, labels = self.filters()
        parameters.setContexts(contexts)
        parameters.setLabels(labels)
        for name, value in self._options["parameters"].items():
            parameters.set(name, value)
        return parameters

    def filters(self) -> tuple[Any, Any]:
        """Contexts and label expression, as Liquibase holds them."""
        import jpype

        contexts = jpype.JClass("liquibase.Contexts")(self._options["contexts"])
        labels = jpype.JClass("liquibase.LabelExpression")(self._options["labels"])
        return contexts, labels
