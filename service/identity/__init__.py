"""Who calls: credentials to actors. Knows nothing of gRPC."""
