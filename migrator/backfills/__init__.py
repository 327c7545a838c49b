"""Data migrations: rows are moved in batches, resumably and provably, between the changesets of a changelog."""
