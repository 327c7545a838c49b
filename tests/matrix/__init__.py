"""Every fault, what must come of it, and the tests that show it."""
