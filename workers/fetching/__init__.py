"""Models and data sets from where their owners keep them: listed, chosen, fetched, checked, and kept as if they had been uploaded."""
