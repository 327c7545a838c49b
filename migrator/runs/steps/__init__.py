"""One file a step. A new step touches its own file, the enum `StepName`, the list in `ways.py`, and its test."""
