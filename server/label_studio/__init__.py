"""What Label Studio says and what it expects back: labeling configs, tasks, results."""
