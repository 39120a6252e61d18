"""`lustral doctor`: uses what the service uses, and says of each thing that is wrong what to do."""
