"""A real one-node Kubernetes for development, tests and the demo."""
