"""The code of a model in MLflow's registry, which MLflow copies beside the weights and runs to load it."""

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from search.report.deploy.registry import predictions
from vattn.trained import load


class VideoClassifier(PythonModel):
    """Gives classes to the videos whose paths are in the column ``video``."""

    def load_context(self, context: Any) -> None:
        """Read the trained model among the artifacts."""
        self._model = load(context.artifacts["model"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        """Return a row for each video, see `search.report.deploy.registry.register`."""
        del context, params
        return predictions(self._model, model_input)


set_model(VideoClassifier())
