"""What the product costs, as ratios to hand-minimal code measured in the same run."""
