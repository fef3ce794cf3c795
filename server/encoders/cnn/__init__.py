"""The tutorial's CNN: words → embedding → convolutions → maximum over time."""
