"""Training: data, teacher, loop, calibration, and the state of a run."""
