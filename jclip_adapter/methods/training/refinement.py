"""Methods that refine the logits of another method, their base."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from jclip_adapter.core.errors import UsageError
from jclip_adapter.core.task import Array, FewShotTask, Queries
from jclip_adapter.methods.base import Hyperparameters, Method, hyper

PREFIX = "base_"  # of the learnt arrays that belong to the base


@dataclass(frozen=True)
class RefinementHyper(Hyperparameters):
    """The hyper-parameters that name the base."""

    base: str = hyper("zero-shot", "method whose logits are refined")
    base_values: str = hyper("", "hyper-parameters of `base`, as name=value,name=value")


class Refinement(Method):
    """A method on top of another one.

    Learnt arrays: those of the base with `base_` before their names, and those of the method.
    """

    hyper: RefinementHyper

    def _fit_base(self, task: FewShotTask) -> None:
        """Fit the base and keep what it learnt.

        Raises:
            UsageError: the base is the method itself or unknown, or `base_values` are not its hyper-parameters.
        """
        for name in [name for name in vars(self) if name.startswith(PREFIX)]:
            delattr(self, name)
        # Prototypes in place of texts are the base's texts too.
        base = self._base().fit(dataclasses.replace(task, has_text=True))
        for name, value in base.learnt().items():
            setattr(self, PREFIX + name, value)

    def _base(self) -> Method:
        """The base, not fitted."""
        from jclip_adapter.methods import get

        if self.hyper.base == self.meta.name:
            raise UsageError(f"base={self.hyper.base} cannot refine itself.", "Give another method, such as zero-shot.")
        pairs = [pair.partition("=") for pair in self.hyper.base_values.split(",") if pair]
        return get(self.hyper.base)(seed=self.seed, **{name.strip(): value for name, _, value in pairs})

    def _base_logits(self, queries: Queries) -> Array:
        """(M, C) scores of the fitted base."""
        base = self._base()
        base.classes_, base.width_, base.raw_ = self.classes_, self.width_, self.raw_
        for name, value in self.learnt().items():
            if name.startswith(PREFIX):
                setattr(base, name.removeprefix(PREFIX), value)
        return base.logits(queries)
