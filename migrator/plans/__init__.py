"""What a run would do: the tables that the changesets name, the way they are applied, the proof that is affordable."""
