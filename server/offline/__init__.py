"""Files in, files out: reading rows and labelled texts, and predicting them in bulk.

bounded_stream  counts the bytes of a stream and limits the size of a row; a range of a file's lines
row_readers     CSV, JSON, JSONL and Parquet: bytes → rows
records         the rows of a file by its name, with readable errors
row_texts       the text of a row, by a labeling config or a column
labelled        the labelled texts of a table or a Label Studio export
labelled_source a file, or a project of Label Studio
classifier      many texts → probabilities, on all cores
labeler         texts of tasks → predictions
predict_file    a file of texts → Label Studio's import file, resumable
list_bundles    the bundles in a folder, and those that a server serves
progress_bar    rows and bytes read so far
command         the command `prelabel predict`
"""
