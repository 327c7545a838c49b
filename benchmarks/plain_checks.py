"""One of the two Great Expectations scripts of the plain way: the suites of a folder, on a database.

    python plain_checks.py postgresql+psycopg://user@host/database suites/

The password comes from PGPASSWORD. Exit code 1 when an expectation does not hold.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # it would ask a server of theirs

import great_expectations as gx
import yaml
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration


def main(url: str, folder: Path) -> int:
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    source = context.data_sources.add_postgres("database", connection_string=url)
    failed = 0
    for path in sorted(folder.glob("*.yaml")):
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        schema, table = found["table"].split(".")
        asset = source.add_table_asset(found["name"], table_name=table, schema_name=schema)
        batch = asset.add_batch_definition_whole_table("whole").get_batch()
        suite = gx.ExpectationSuite(
            name=found["name"],
            expectations=[
                ExpectationConfiguration(type=one["type"], kwargs=one["kwargs"]).to_domain_obj()
                for one in found["expectations"]
            ],
        )
        results = batch.validate(suite, result_format="BOOLEAN_ONLY").results
        failed += sum(not result.success for result in results)
        print(f"{found['name']}: {len(results)} expectations, {sum(bool(r.success) for r in results)} hold")
        if len(results) != len(found["expectations"]):
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
