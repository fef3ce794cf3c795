"""The learner: a process next to the server that fits new models from annotations, and proves them first."""
