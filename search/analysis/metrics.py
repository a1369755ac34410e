"""Names of metrics with a meaning that several rooms share."""

#: metrics in 0 ... 1, which are shown in percent
RATES = ("top1", "top5", "mean_class")
#: prefix of the metrics of the test split
TEST = "test_"
