"""Layer 3: learning-rate schedules, and Adam with edits that keep its moments in step."""

from vultus.optim.adam import (
    append_rows,
    build_adam,
    keep_rows,
    replace_values,
    set_learning_rate,
)
from vultus.optim.schedules import exponential_decay, linear_decay

__all__ = [
    "append_rows",
    "build_adam",
    "exponential_decay",
    "keep_rows",
    "linear_decay",
    "replace_values",
    "set_learning_rate",
]
