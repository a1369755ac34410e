"""MLflow's registry of models: a trained model by its name and version."""

from pathlib import Path

import pandas as pd

from search.report.tracking.store import Store
from vattn.errors import UserError
from vattn.trained import TrainedModel

#: how far a registered model may differ from the file, which it does not on the same machine
_TOLERANCE = 1e-5


def register(model: TrainedModel, name: str, uri: str, card: str, video: Path) -> str:
    """Register a model with its signature, an input example and its card, and return the number of its version.

    The registered model takes a table with the paths of videos, in the column ``video``, and returns a table with the
    class and its probability for each, and one column with the probabilities of all classes.

    Args:
        model: the model.
        name: name in the registry.
        uri: address of the MLflow store.
        card: its description.
        video: a real video: the example, for which the registered model must predict the same as the file.

    Raises:
        UserError: MLflow refuses it, or it predicts something else.
    """
    client, experiment = Store(Path(), uri, "models").connect()
    import mlflow
    from mlflow.models import infer_signature

    example = pd.DataFrame({"video": [str(video.absolute())]})
    expected = predictions(model, example)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        with mlflow.start_run(experiment_id=experiment, run_name=name):
            made = mlflow.pyfunc.log_model(
                name="model", python_model=str(Path(__file__).with_name("served.py")), registered_model_name=name,
                artifacts={"model": str(model.file.file.absolute())},
                signature=infer_signature(example, expected), input_example=example,
                pip_requirements=["vattn-search"],
            )  # fmt: skip
        version = str(made.registered_model_version)
        client.update_registered_model(name, description=card)
        client.update_model_version(name, version, description=card)
        found = mlflow.pyfunc.load_model(f"models:/{name}/{version}").predict(example)
    except mlflow.MlflowException as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"MLflow refuses it: {reason}", path="--register", found=name) from error
    same = found["label"].tolist() == expected["label"].tolist()
    if not (same and abs(found["probability"][0] - expected["probability"][0]) <= _TOLERANCE):
        raise UserError("the registered model predicts something else than the file", path="--register", found=name)
    return version


def predictions(model: TrainedModel, table: pd.DataFrame) -> pd.DataFrame:
    """Return the class of each video of a table, its probability, and the probabilities of all classes in order."""
    rows = [model.probabilities(video).tolist() for video in table["video"]]
    best = [max(range(len(row)), key=row.__getitem__) for row in rows]
    return pd.DataFrame({
        "video": table["video"].tolist(),
        "label": [model.labels[n] for n in best],
        "probability": [row[n] for row, n in zip(rows, best, strict=True)],
        "probabilities": rows,
    })  # fmt: skip
