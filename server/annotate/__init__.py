"""`prelabel annotate`: predictions for the tasks of a Label Studio project, stored in bulk.

halving     finding the bad ones in a list that is refused as a whole
tasks       which tasks lack a version, page by page
sources     where predictions come from: the model in this process
ml_backend  ... or an ML backend
push        predictions into Label Studio, each once
run         all of it in order
report      as a person meets it: a bar, Ctrl-C, the summary
"""
