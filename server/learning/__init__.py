"""Learning from annotations: what annotators answered, kept durably, and the models learned from them."""
