"""`prelabel evaluate`: how good a bundle is on labelled texts.

classification_metrics  accuracy, F1, log loss, calibration, from sums
multi_label_metrics     the same for each label, where a text may have several
label_classes           which of the model's classes a label of a file is
evaluate                measures a bundle on a file
report                  the tables
plots                   the pictures; also of a training
command                 the command itself
"""
