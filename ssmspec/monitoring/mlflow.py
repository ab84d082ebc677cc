"""A log for MLflow: metrics per statistic and layer, pictures of |H|, and reasons for missing numbers."""

import re
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import SsmspecError, needed
from ssmspec.monitoring.scalars import PROBLEM, RESPONSE, Problems, scalars
from ssmspec.report.documents.monitoring import Timing
from ssmspec.statistics import Measurement

MOST_METRICS = 1000  # of one request
MOST_LETTERS = 250  # of the name of a metric or tag
MOST_OF_TAG = 5000  # letters of the value of a tag
OTHER = re.compile(r"[^A-Za-z0-9_./-]")  # letters that names must not have


class MlflowLog:
    """Writes to a run of MLflow, which is the user's own or begun here.

        with mlflow.start_run() as run:
            SpectralMonitor(model, MlflowLog(run.info.run_id))
        SpectralMonitor(model, MlflowLog(experiment="tones", tracking_uri="sqlite:///mlflow.db"))

    Metrics are `<statistic>/<layer>`, with `<statistic>.p5/` and `.p95/` for the range over copies, `monitor/seconds` and `monitor/share`;
    images are `response/<layer>`; reasons for missing numbers are tags `problem/<layer>`. A name that MLflow does not allow becomes a
    similar one with a hash, and the tag of that name has the original.

    Args:
        run_id: of a run, which the caller has to end. Without it, a run of the experiment is begun before the first measurement and ended
            after the last one.
        experiment: the name of an experiment, which is made if it does not exist. tracking_uri: where runs are; MLflow's own by default.

    Raises:
        SsmspecError: the package mlflow is missing, or both a run and an experiment are given.
    """

    def __init__(self, run_id: str | None = None, *, experiment: str | None = None, tracking_uri: str | None = None) -> None:
        if run_id is not None and experiment is not None:
            raise SsmspecError(f"MlflowLog takes a run or an experiment for a new one, not both; leave out {experiment}")
        self._mlflow = needed("mlflow", "an MlflowLog")
        self._client: Any = None
        self._uri, self._experiment, self._run, self._own = tracking_uri, experiment or "Default", run_id, run_id is None
        self._problems = Problems()
        self._renamed: set[str] = set()

    def begin(self, step: int) -> None:
        """Connect, and begin a run unless the user has one. MLflow keeps what an earlier run logged there for later steps."""
        self._client = self._mlflow.MlflowClient(tracking_uri=self._uri)
        if self._run is None:
            found = self._client.get_experiment_by_name(self._experiment)
            experiment = self._client.create_experiment(self._experiment) if found is None else found.experiment_id
            self._run = self._client.create_run(experiment).info.run_id

    def picture(self, step: int, layer: str, part: str, image: npt.NDArray[np.uint8]) -> None:
        """Log the picture of a layer."""
        self._client.log_image(self._run, image, key=self._name(f"{RESPONSE}{layer}"), step=step)

    def write(self, measurement: Measurement, timing: Timing | None, pictures: Mapping[str, str] | None) -> None:
        """Log the numbers that exist, and the reasons that are new."""
        now, metric = int(time.time() * 1000), self._mlflow.entities.Metric
        found = [metric(self._name(name), number, now, measurement.step) for name, number in scalars(measurement, timing).items()]
        for start in range(0, len(found), MOST_METRICS):
            self._client.log_batch(self._run, metrics=found[start : start + MOST_METRICS])
        for layer, text in self._problems.new(measurement).items():
            self._client.set_tag(self._run, self._name(f"{PROBLEM}{layer}"), text[:MOST_OF_TAG])

    def close(self) -> None:
        """End the run if it was begun here."""
        if self._own and self._run is not None:
            self._client.set_terminated(self._run)
            self._run = None

    def _name(self, name: str) -> str:
        """The name, or one that MLflow allows in its place, which is then told in a tag."""
        allowed = allowed_name(name)
        if allowed != name and allowed not in self._renamed:
            self._renamed.add(allowed)
            self._client.set_tag(self._run, f"name/{allowed}"[:MOST_LETTERS], name[:MOST_OF_TAG])
        return allowed


def allowed_name(name: str) -> str:
    """A name as MLflow allows it. Names are taken for paths, too, so no part of one is empty, "." or ".."."""
    parts = name.split("/")
    if not OTHER.search(name) and len(name) <= MOST_LETTERS and not {"", ".", ".."} & set(parts):
        return name
    safe = "/".join(OTHER.sub("_", part).strip(".") or "_" for part in parts)
    return f"{safe[: MOST_LETTERS - 20]}-{sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"
