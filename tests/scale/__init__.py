"""What the database does with the queries of the service once its tables are large."""
