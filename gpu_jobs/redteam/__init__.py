"""What the benchmarks attack with: triggers, targets, and the poisoning of training sets."""
