"""Tests. `make test` runs all but those marked e2e; those marked gpu skip without a CUDA device."""
