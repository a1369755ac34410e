"""Names of metrics that have a meaning beyond the epoch that reported them."""

#: metrics in 0 ... 1, which are shown in percent
RATES = ("top1", "top5", "mean_class")
#: prefix of the metrics of the test split
TEST = "test_"
