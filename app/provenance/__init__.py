"""Where a download comes from: the service's signing key, the signature over a job's artifacts, and checking both."""
