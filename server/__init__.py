"""Bundle to predictions. Needs no torch, except for the TorchScript engine."""

import os

# read when the library is imported, with whose first session it would report the machine to Microsoft
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
