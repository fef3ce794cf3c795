"""`prelabel connect`: adds the server to a Label Studio project the way Label Studio needs it, checks it,
takes it back.

options     what the command was asked for
rules       what has to change: rules over what Label Studio's API answers, without I/O
note        what was there before, kept in the ML backend's description
backend     the server as seen from here
visit       a walk through steps; the steps that come first in each
connecting  the steps that connect, or only look
disconnecting  the steps that take it back
checklist   a line a step: ✓, ✗ with the remedy, –
"""
