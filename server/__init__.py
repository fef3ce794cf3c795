"""Bundle → predictions. Needs no torch, the TorchScript engine apart."""
