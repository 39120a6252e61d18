"""Real servers for the tests, each from its wheel, each in a folder of its own."""
