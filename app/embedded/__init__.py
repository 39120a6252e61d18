"""The whole service on one machine: `lustral up` and what it starts."""
