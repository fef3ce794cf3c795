"""`prelabel evaluate`: how good a bundle is on labelled texts.

classification_metrics  accuracy, F1, log loss, calibration, from sums
evaluate                measures a bundle on a file
report                  the tables
plots                   the pictures; also of a training
command                 the command itself
"""
