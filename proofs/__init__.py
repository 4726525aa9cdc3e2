"""The proofs that `python3 dev.py verify` runs: its rows, and those that are no tests."""
