"""Model families behind one seam: `base` is the seam, `registry` finds the family of a checkpoint."""
