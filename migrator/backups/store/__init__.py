"""Where backups lie: one folder a backup, named by its id."""
