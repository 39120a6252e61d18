"""What an upload is, and whether it may be used: looked at once, before anything else touches it. Nothing in it is executed."""
