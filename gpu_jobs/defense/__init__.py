"""The defence: find the samples that teach a backdoor, answer them again with the trigger hidden, train the model back, show the effect."""
