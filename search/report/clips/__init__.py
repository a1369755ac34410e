"""Results clip by clip: their files, what they say of classes and lengths, paired comparisons, pictures."""
