"""Inputs that nobody meant to send: mutations of real ones, thrown at everything that reads a file or a
request.

`tests/fuzz/run.py` does it for as long as one likes, `tests/fuzz/test_fuzz.py` for a moment in every test
run.
"""
