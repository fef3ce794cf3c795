"""`prelabel annotate`: stores predictions for the tasks of a Label Studio project, in bulk.

options            what to annotate
task_query         which tasks lack a model version, page by page
bisect_batch       finds the invalid items of a list that is refused as a whole
prediction_source  tasks → predictions: the model in this process
backend_source     tasks → predictions: an ML backend
upload             stores predictions, each once
background         work in daemon threads, and a stop request that interrupts the wait for it
run                the loop: fetch, predict, store
console            progress bar, Ctrl-C, summary, exit status
command            the command itself
"""
