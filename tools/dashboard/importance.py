"""How much each parameter of a study matters, as Optuna's PED-ANOVA computes it."""

from functools import lru_cache
from typing import Any

import optuna

from ..tuning import study as tuning
from .parameters import Parameter

Point = tuple[tuple[tuple[str, float | str], ...], float]
"""The parameters of a completed trial by name, and its result."""

COMPLETE_MIN = 4  # runs; with fewer the best one alone would decide


def importances_or_why(
    parameters: tuple[Parameter, ...], points: tuple[Point, ...], maximize: bool
) -> tuple[dict[str, float], str]:
    """Each parameter's share of 1, or why there is none."""
    n = len(points)
    if not parameters:
        return {}, "The runs do not differ in any setting."
    if n < COMPLETE_MIN:
        runs = "1 run has" if n == 1 else f"{n} runs have"
        return {}, f"Too few runs: {runs} completed, {COMPLETE_MIN} are needed."
    if len({value for _, value in points}) == 1:
        return {}, "All runs have the same result: no parameter made a difference."
    try:
        return importances(parameters, points, maximize), ""
    except (ValueError, ArithmeticError, RuntimeError) as error:
        return {}, f"Optuna cannot compute importances from these values: {error}"


@lru_cache(maxsize=64)
def importances(
    parameters: tuple[Parameter, ...], points: tuple[Point, ...], maximize: bool
) -> dict[str, float]:
    """PED-ANOVA's importances: shares of 1.

    Raises:
        ArithmeticError: a share is not finite
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # else it logs each study on stderr
    distributions = {p.name: tuning.distribution(p.in_space) for p in parameters}
    study = optuna.create_study(direction="maximize" if maximize else "minimize")
    for values, result in points:
        params: dict[str, Any] = {name: v for name, v in values if name in distributions}
        study.add_trial(
            optuna.trial.create_trial(
                value=result,
                params=params,
                distributions={name: distributions[name] for name in params},
            )
        )
    return tuning.importances(study)
