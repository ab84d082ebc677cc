"""What `ssmspec suggest` says for the training data and the first layer of a task, as settings to begin a search with."""

import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from ssmspec.errors import SsmspecError
from ssmspec.families import ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.report.documents.search_results import SuggestedSetting
from ssmspec.report.documents.suggest import suggestion_document
from ssmspec.systems.trust import assess
from ssmspec.training.engine.run import conditions, make_problem
from ssmspec.training.engine.run_folder import INITIAL, RunConfig
from ssmspec.training.engine.state import write_checkpoint
from ssmspec.training.task import changed
from ssmspec.tuning.spectra.estimate import power_spectrum
from ssmspec.tuning.spectra.signals import as_signals
from ssmspec.tuning.spectra.suggest import StartingLayer, Suggestion, SuggestSettings, suggest

DATA = "training examples at the first layer"


def suggested_setting(config: RunConfig) -> SuggestedSetting:
    """The suggestion for the first layer of the model with alpha 1 and beta 0, which hears the training examples.

    Values that are not advised (a beta that does not differ from 0, or whose spectrum is no power law) are replaced by those of the
    baseline, and the notes say so. So are the reasons why there are no values at all, such as too few samples.
    """
    settings = changed(config.settings, {"alpha": 1.0, "beta": 0.0})
    convention, knee = settings.beta_convention, settings.theta_ref
    with conditions(config), tempfile.TemporaryDirectory() as place:
        problem = make_problem(replace(config, settings=settings), Path(place))
        path = Path(place) / INITIAL
        write_checkpoint(path, problem)
        signals = np.asarray(problem.heard().detach().cpu().double().numpy())
        try:
            system = load_system(path, "0", ReadOptions()).state_space()
            start = StartingLayer.of(assess(system).pick(system))
            found = suggest(
                power_spectrum(as_signals(signals, layout="BLC", source=DATA)),
                start,
                SuggestSettings(convention, knee, signals.shape[1]),
            )
        except SsmspecError as error:
            return SuggestedSetting(reason=str(error))
    return _setting(found)


def _setting(found: Suggestion) -> SuggestedSetting:
    document = suggestion_document(found, DATA)
    low, high, beta = (found[name] for name in ("alpha_min", "alpha_max", "beta"))
    if low.value is None:
        return SuggestedSetting(reason=low.note, document=document)
    ends = sorted((low.value, low.value if high.value is None else high.value))
    notes = [f"suggest, alpha: {item.note}" for item in (low, high) if item.note]
    value, error = (beta.value, beta.uncertainty) if found.has_beta and beta.value is not None else (0.0, None)
    if error is None:
        given = "gives no beta" if beta.value is None else f"gives beta {beta.value:g} +- {beta.uncertainty:g}"
        notes.append(f"suggest {given}, but does not advise it ({beta.note or 'the spectrum is no power law'}), so beta 0 stands for it")
    middle = float(f"{math.sqrt(ends[0] * ends[1]):.4g}")
    unadvised = beta.value if error is None and beta.value else None
    return SuggestedSetting((ends[0], ends[1]), middle, value, error, unadvised, tuple(notes), document=document)
