"""The control plane of pdfjob: a Kubernetes operator."""
