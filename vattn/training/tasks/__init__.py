"""What a training and an evaluation of each task do besides what all tasks share."""
