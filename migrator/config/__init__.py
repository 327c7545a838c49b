"""migrator.toml as frozen models: what a run may do, to which database, and how."""
