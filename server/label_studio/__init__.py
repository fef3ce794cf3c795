"""Label Studio's formats and its API: labeling configs, tasks, predictions."""
