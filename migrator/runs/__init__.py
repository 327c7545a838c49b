"""The guarded run: its record, its steps, how it is executed, undone and resumed."""
