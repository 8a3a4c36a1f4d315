"""Exponential moving average of the weights."""

from __future__ import annotations

from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler as IgniteEMAHandler
from torch import nn

__all__ = ["EMAHandler"]


class EMAHandler(IgniteEMAHandler):
    """ignite's EMAHandler, with a start: until ``start`` iterations the average is a copy of the weights,
    refreshed at every update.

    Args:
        network: the trained network (a DistributedDataParallel is looked through).
        decay: share of the old average kept at each update.
        start: iterations before averaging begins.
        interval: iterations between updates.
    """

    def __init__(self, network: nn.Module, decay: float = 0.995, start: int = 2000, interval: int = 10) -> None:
        super().__init__(network, momentum=1 - decay)
        self.start, self.interval = start, interval

    def attach(self, engine: Engine) -> None:  # type: ignore[override]
        super().attach(
            engine,
            name="ema_momentum",
            warn_if_exists=False,
            event=Events.ITERATION_COMPLETED(every=self.interval),
        )

    def _update_ema_model(self, engine: Engine, name: str) -> None:
        if engine.state.iteration <= self.start:
            self.ema_model.load_state_dict(self.model.state_dict())
        else:
            super()._update_ema_model(engine, name)
