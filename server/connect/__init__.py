"""`prelabel connect`: adds a server to a Label Studio project as an ML backend, checks it, and can undo it.

options           what to connect
project           the project in Label Studio: reads and changes it through the API
desired_state     pure rules: what differs from how it should be
restore_point     the settings before connect, kept in the ML backend's description
remedies          what to do about an error of Label Studio
backend_probe     is the ML backend up, and can it serve the labeling config
checklist         one line per finding: ✓, ✗ with a remedy, –
step_runner       runs steps in order; the steps that every command begins with
connect_steps     the steps that connect, or with --check only look
disconnect_steps  the steps that undo it
command           the command itself
"""
