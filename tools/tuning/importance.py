"""How much of the difference between good and other trials each parameter explains."""

import math
import warnings

import optuna


def importances(study: optuna.Study) -> dict[str, float]:
    """PED-ANOVA's importances of a study's parameters: shares of 1, the greatest first.

    Raises:
        ValueError, RuntimeError, ArithmeticError: they cannot be told from these trials.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the evaluator is experimental
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    if not all(math.isfinite(share) for share in shares.values()):
        raise ArithmeticError("a share is not finite")
    return shares
