"""The only modules that touch a client: Kubernetes and S3. Foreign exceptions become ours here, once."""
