"""Ready-made states of the database for tests to start from."""
