"""Bundle to predictions. Needs no torch, except for the TorchScript engine."""
