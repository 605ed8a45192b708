"""The one door to torch: what Gaussian processes say of places, after some trials.

Torch is loaded by ``prepare``, and keeps to one thread from then on: its arrays are so small that a second
one costs more than it gives. All arrays here have one row or element for each place. Whatever goes wrong with
the numerics, an answer comes.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipesd.errors import UsageError, one_line
from pipesd.tuner.base import Floats

if TYPE_CHECKING:
    from torch import Tensor

LENGTH = 0.4
"""How far apart places are, in the unit cube, whose errors of the model have little to do with each other."""

_NOISE_MIN = 1e-6
"""Variance of an observation, at least, relative to the variance of the process."""

_FIT_STEPS = 40
_DEPENDENCIES = "torch, botorch and gpytorch"


@dataclass(frozen=True, slots=True)
class Tried:
    """What trials were like, compared with a model of them."""

    units: Floats
    residuals_ms: Floats
    """Scores, less what the model says there."""

    errors_ms: Floats
    """Standard errors of the scores."""


@dataclass(frozen=True, slots=True)
class Posterior:
    """What is believed of candidates."""

    mean_ms: Floats
    """J, apart from what all candidates share."""

    merit: Floats
    """How much there is to gain by trying one: the logarithm of the expected improvement, or less J where
    there is no process. Only compared with each other."""


def prepare() -> None:
    """Load torch, and keep it to one thread. Takes seconds the first time.

    Raises ``UsageError`` if it is not installed. The number of threads is torch's own setting for the whole
    process: whoever computes anything else with torch should do it in another one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import botorch  # noqa: F401, PLC0415 - takes seconds
            import gpytorch  # noqa: F401, PLC0415
            import torch  # noqa: PLC0415
    except (ImportError, OSError, RuntimeError) as error:
        reason = one_line(str(error).partition("\n")[0])
        raise UsageError(
            f"this tuner needs {_DEPENDENCIES} ({reason}); install the extra pipesd[tuner]"
        ) from error
    torch.set_num_threads(1)


def by_model(prior_ms: Floats) -> Posterior:
    """The posterior without any process: what the model says."""
    return Posterior(prior_ms, -prior_ms)


def posterior(tried: Tried, candidates: Floats, prior_ms: Floats, model_error_ms: float) -> Posterior:
    """What the model says of ``candidates``, and what ``tried`` says of the model.

    The model is off by a constant, estimated from the residuals by generalized least squares, and by a
    Gaussian process (Matérn-5/2) of standard deviation ``model_error_ms``. How well the constant is known
    makes no candidate better than another, so it is left out of the uncertainty.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _guided(tried, candidates, prior_ms, model_error_ms)
    except _failures():
        return by_model(prior_ms)
    is_usable = np.isfinite(found.mean_ms).all() and np.isfinite(found.merit).all()
    return found if is_usable else by_model(prior_ms)


def _guided(tried: Tried, candidates: Floats, prior_ms: Floats, model_error_ms: float) -> Posterior:
    from botorch.acquisition.analytic import LogExpectedImprovement  # noqa: PLC0415
    from botorch.models import SingleTaskGP  # noqa: PLC0415
    from gpytorch.kernels import MaternKernel  # noqa: PLC0415
    from gpytorch.means import ZeroMean  # noqa: PLC0415

    kernel = MaternKernel(nu=2.5).double()
    kernel.lengthscale = LENGTH
    places = _tensor(tried.units)
    noise = np.maximum((tried.errors_ms / model_error_ms) ** 2, _NOISE_MIN)
    covariance = kernel(places).to_dense().detach().numpy() + np.diag(noise)
    weights = np.linalg.solve(covariance, np.ones(len(noise)))
    shared_ms = weights @ tried.residuals_ms / weights.sum()
    model = SingleTaskGP(
        places,
        _column((tried.residuals_ms - shared_ms) / model_error_ms),
        _column(noise),
        covar_module=kernel,
        mean_module=ZeroMean(),
        outcome_transform=None,
    )
    model.eval()
    points = _tensor(candidates).unsqueeze(1)
    residuals = _array(model.posterior(points).mean) * model_error_ms
    mean_ms = prior_ms + residuals
    # The improvement over the best mean, as far as it takes the residual of each candidate to bring it about.
    bars = (mean_ms.min() - prior_ms) / model_error_ms
    gain = LogExpectedImprovement(model, best_f=_column(bars), maximize=False)
    return Posterior(mean_ms, _array(gain(points)))


def fitted_merit(units: Floats, scores: Floats, candidates: Floats, xi: float, seed: int) -> Floats | None:
    """The logarithm of EI at ``candidates``, of a process fitted by maximum likelihood; None if that fails.

    Scores are standardised first, so ``xi`` is in standard deviations of them; the less the better. EI and
    its logarithm are greatest at the same place, but EI itself is 0 to the last bit far from it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            merit = _fitted(units, scores, candidates, xi, seed)
    except _failures():
        return None
    return merit if np.isfinite(merit).all() else None


def _fitted(units: Floats, scores: Floats, candidates: Floats, xi: float, seed: int) -> Floats:
    from botorch.acquisition.analytic import LogExpectedImprovement  # noqa: PLC0415
    from botorch.fit import fit_gpytorch_mll  # noqa: PLC0415
    from botorch.models import SingleTaskGP  # noqa: PLC0415
    from botorch.utils.sampling import manual_seed  # noqa: PLC0415
    from gpytorch.kernels import MaternKernel, ScaleKernel  # noqa: PLC0415
    from gpytorch.likelihoods import GaussianLikelihood  # noqa: PLC0415
    from gpytorch.mlls import ExactMarginalLogLikelihood  # noqa: PLC0415

    spread = float(np.std(scores)) or 1.0
    standardised = (scores - scores.mean()) / spread
    model = SingleTaskGP(
        _tensor(units),
        _column(standardised),
        likelihood=GaussianLikelihood(),
        covar_module=ScaleKernel(MaternKernel(nu=2.5, ard_num_dims=units.shape[1])),
        outcome_transform=None,
    )
    with manual_seed(seed):
        fit_gpytorch_mll(
            ExactMarginalLogLikelihood(model.likelihood, model),
            optimizer_kwargs={"options": {"maxiter": _FIT_STEPS}},
            max_attempts=1,
        )
    gain = LogExpectedImprovement(model, best_f=float(standardised.min()) - xi, maximize=False)
    return _array(gain(_tensor(candidates).unsqueeze(1)))


def _failures() -> tuple[type[Exception], ...]:
    """What comes of numbers that are no numbers, of singular matrices and of fits that go nowhere."""
    from botorch.exceptions import BotorchError  # noqa: PLC0415
    from botorch.exceptions.errors import ModelFittingError  # noqa: PLC0415

    return BotorchError, ModelFittingError, ArithmeticError, RuntimeError, ValueError


def _tensor(values: Floats) -> "Tensor":
    import torch  # noqa: PLC0415

    return torch.as_tensor(values, dtype=torch.float64)


def _column(values: Floats) -> "Tensor":
    return _tensor(values).unsqueeze(-1)


def _array(tensor: "Tensor") -> Floats:
    array: Floats = tensor.detach().numpy().reshape(-1)
    return array
