"""Fuzzing: mutations of real inputs for everything that reads a file or a request.

`tests/fuzz/run.py` runs for a chosen time, `tests/fuzz/test_fuzz.py` for a moment in every test run.
"""
