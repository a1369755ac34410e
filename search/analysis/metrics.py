"""Names of metrics with a meaning that several rooms share."""

#: metrics in 0 ... 1, which are shown in percent
RATES = ("top1", "top5", "mean_class", "map", "map_0.1", "map_0.2", "map_0.3", "map_0.4", "map_0.5", "recall")
#: prefix of the metrics of the test split
TEST = "test_"
