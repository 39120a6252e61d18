"""The report of a job: the same content as JSON for machines and as one self-contained page for people."""
